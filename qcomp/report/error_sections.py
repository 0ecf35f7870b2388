"""The sections of a report that tell of errors: what to try, the graph, the ranking of ops."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from qcomp.report.colours import GOOD_DB, SHARES
from qcomp.report.graph_svg import graph_svg
from qcomp.report.markup import MOST_ROWS, Json, decibels, esc, jump, table

_CAUSES = ("weights", "bias", "clipping", "rounding", "requantize", "table")


def advice_section(advice: Sequence[Json]) -> str:
    if not advice:
        return "<p class=quiet>Nothing was found that costs much accuracy.</p>"
    items = "".join(
        f"<li>{esc(one['text'])}{jump(one['id']) if one['id'] else ''}{_gain(one)}</li>"
        for one in advice
    )
    return f"<ul class=advice>{items}</ul>"


def _gain(one: Json) -> str:
    return f" <b class=gain>{esc(one['gain'])}</b>" if one.get("gain") else ""


def graph_section(found: Json) -> str:
    return (
        "<div class=tools>"
        '<input id=search type=search placeholder="Search ops (/)" aria-label="search ops" '
        "autocomplete=off><span id=hits aria-live=polite></span>"
        "<label>Colour <select id=colour><option value=alone>error alone</option>"
        "<option value=whole>error in the network</option>"
        f"<option value=share>share at the outputs</option>{_by_time(found)}</select></label>"
        '<span class=zoom><button id=out aria-label="zoom out">−</button>'
        '<button id=in aria-label="zoom in">+</button>'
        "<button id=fit>all</button></span>"
        f"{_legend()}</div>"
        f"<div class=split><div class=stage><div id=strip aria-hidden=true></div>"
        f"{graph_svg(found['nodes'], found['edges'], (found['times'] or {}).get('sum'))}</div>"
        "<aside id=details tabindex=-1><p class=quiet>Click a box, or walk with the arrow keys: "
        "its text, numbers, errors and values are shown here.</p></aside></div>"
    )


def _by_time(found: Json) -> str:
    return "" if found["times"] is None else "<option value=time>share of the time</option>"


def _legend() -> str:
    db = [f"≥ {GOOD_DB[0]:g} dB"]
    db += [f"{low:g}–{high:g}" for high, low in itertools.pairwise(GOOD_DB)]
    db.append(f"&lt; {GOOD_DB[-1]:g}")
    share = [f"&lt; {100 * SHARES[0]:g} %"]
    share += [f"{100 * a:g}–{100 * b:g}" for a, b in itertools.pairwise(SHARES)]
    share.append(f"≥ {100 * SHARES[-1]:g} %")
    both = (("db", db), ("shares", share))
    return "".join(
        f'<span class="legend {kind}">'
        + "".join(f'<i class="b{i}">{text}</i>' for i, text in enumerate(texts))
        + "<i class=bn>no error</i></span>"
        for kind, texts in both
    )


def ranking_section(found: Json) -> str:
    errors = found["errors"]
    if errors is None or not errors["ranking"]:
        return "<p class=quiet>Not measured: it takes data.</p>"
    nodes = {node["id"]: node for node in found["nodes"]}
    rows = []
    for id in errors["ranking"][:MOST_ROWS]:
        node = nodes[id]
        error = node["error"]
        alone, whole, share = error["isolated"], error["cumulative"] or {}, error["share"] or 0.0
        bar = f"<span class=bar><i style=width:{100 * share:.1f}%></i></span>"
        rows.append(
            f'<tr><td><button class=jump data-id="{esc(id)}">{esc(node["title"])}</button></td>'
            f"<td>{esc(node['kind'])}</td><td class=n>{100 * share:.1f} %{bar}</td>"
            f"<td class=n>{decibels(alone['db'])}</td><td class=n>{decibels(whole.get('db'))}</td>"
            f"<td>{_causes(error['causes'])}</td>"
            f"<td class=n>{100 * (alone['bias'] or 0):.0f} %</td>"
            f"<td class=n>{100 * (error['clipped'] or 0):.2g} %</td></tr>"
        )
    heads = ("op", "kind", "share", "alone, dB", "in all, dB", "causes", "mean shift", "clipped")
    told = (
        f"The error of each op alone, carried to the outputs by the float network, on "
        f"{errors['shared_samples']} samples: together {decibels(errors['explained_db'])} dB, and "
        f"the whole integer network {decibels(errors['db'])} dB on {errors['samples']}."
    )
    key = "".join(f"<i class=c-{c}>{c}</i>" for c in _CAUSES)
    notes = "".join(f"<p class=quiet>{esc(note)}.</p>" for note in errors["notes"])
    return f"<p>{told}</p>{notes}<p class=key>{key}</p>{table(heads, rows)}"


def _causes(causes: dict[str, float]) -> str:
    total = sum(v or 0.0 for v in causes.values()) or 1.0
    parts = "".join(
        f'<i class=c-{esc(c)} style="width:{100 * (v or 0) / total:.1f}%" '
        f'title="{esc(c)} {100 * (v or 0):.0f} %"></i>'
        for c, v in causes.items()
    )
    return f"<span class=causes>{parts}</span>"
