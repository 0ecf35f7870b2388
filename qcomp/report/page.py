"""The report as one HTML file: no network, no library, and a policy that says so.

What the script reads is JSON in the page; it makes elements and sets their text, never markup. The
policy allows the one script by its hash, so that nothing in a name can become another.
"""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

from qcomp.report.charts import arena, human, timeline
from qcomp.report.colours import GOOD_DB, SHARES
from qcomp.report.graph_svg import graph_svg

Json = dict[str, Any]

_MOST_ROWS = 20
_ESCAPED = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def page(found: Json) -> str:
    """`found` as facts gives it."""
    style, script = _file("page.css"), _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    title = html.escape(f"{found['name']}: a report of qcomp")
    sections = "".join(_sections(found))
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><style>{style}</style></head>'
        f"<body>{_header(found)}<main>{sections}</main>{_footer(found)}"
        f'<script type="application/json" id="facts">{embedded(_for_script(found))}</script>'
        f"<script>{script}</script></body></html>\n"
    )


def embedded(value: Any) -> str:
    """JSON that can't end the element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return "".join(_ESCAPED.get(c, c) for c in text)


def _file(name: str) -> str:
    return resources.files("qcomp.report").joinpath("files", name).read_text(encoding="utf-8")


def _for_script(found: Json) -> Json:
    """What the script reads: the others stand in the page."""
    return {"name": found["name"], "nodes": found["nodes"], "edges": found["edges"]}


def _header(found: Json) -> str:
    sizes, errors, compared = found["sizes"], found["errors"], found["comparison"]
    cards = []
    if errors is not None and errors["db"] is not None:
        cards.append(("outputs", f"{errors['db']:.1f} dB", f"on {errors['samples']} samples"))
    if compared is not None:
        for key, name in (("of_float", "top-1 float"), ("of_integer", "top-1 integer")):
            if (share := (compared[key] or {}).get("top1")) is not None:
                cards.append((name, f"{100 * share:.1f} %", f"{compared['samples']} samples"))
        if compared["agreement"] is not None:
            cards.append(("agreement", f"{100 * compared['agreement']:.1f} %", "largest outputs"))
    cards += [
        ("weights", human(sizes["weights"]), "in the library"),
        ("arena", human(sizes["arena"]), f"{human(sizes['live'])} live at once"),
        ("ops", str(sum(n["kind"] != "input" for n in found["nodes"])), "integer"),
    ]
    shown = "".join(
        f"<div class=card><b>{_t(value)}</b><span>{_t(name)}</span><small>{_t(more)}</small></div>"
        for name, value, more in cards
    )
    told = f"{found['target']} ({', '.join(found['isa'])})"
    return (
        f"<header><h1>{_t(found['name'])}</h1><p class=sub>{_t(told)}</p>"
        f"<div class=cards>{shown}</div>{_links(found)}</header>"
    )


def _links(found: Json) -> str:
    names = {"try": "What to try", "graph-section": "Graph", "ranking": "Ranking"}
    names |= {"answers": "Answers"} if found["comparison"] else {}
    names |= {"passes": "Passes", "sizes": "Memory and sizes", "notes": "Notes"}
    return "<nav>" + "".join(f'<a href="#{id}">{name}</a>' for id, name in names.items()) + "</nav>"


def _sections(found: Json) -> Iterator[str]:
    yield _section("try", "What to try next", _advice(found["advice"]))
    yield _section("graph-section", "Graph", _graph(found))
    yield _section("ranking", "Which ops explain the error at the outputs", _ranking(found))
    if found["comparison"] is not None:
        yield _section("answers", "Answers", _answers(found["comparison"]))
    yield _section("passes", "Passes", _passes(found["passes"]))
    yield _section("sizes", "Memory and sizes", _sizes(found))
    yield _section("notes", "Notes", _notes(found))


def _section(id: str, title: str, content: str) -> str:
    return f'<section id="{id}"><h2>{title}</h2>{content}</section>'


def _advice(advice: Sequence[Json]) -> str:
    if not advice:
        return "<p class=quiet>Nothing was found that costs much accuracy.</p>"
    items = "".join(
        f"<li>{_t(one['text'])}{_jump(one['id']) if 'id' in one else ''}{_gain(one)}</li>"
        for one in advice
    )
    return f"<ul class=advice>{items}</ul>"


def _gain(one: Json) -> str:
    return f" <b class=gain>{_t(one['gain'])}</b>" if one.get("gain") else ""


def _jump(id: str) -> str:
    return f' <button class=jump data-id="{_t(id)}">show</button>'


# ------------------------------------------------------------------------- graph


def _graph(found: Json) -> str:
    return (
        "<div class=tools>"
        '<input id=search type=search placeholder="Search ops (/)" aria-label="search ops" '
        "autocomplete=off><span id=hits aria-live=polite></span>"
        "<label>Colour <select id=colour><option value=alone>error alone</option>"
        "<option value=whole>error in the network</option>"
        "<option value=share>share at the outputs</option></select></label>"
        '<span class=zoom><button id=out aria-label="zoom out">−</button>'
        '<button id=in aria-label="zoom in">+</button>'
        "<button id=fit>all</button></span>"
        f"{_legend()}</div>"
        f"<div class=split><div class=stage><div id=strip aria-hidden=true></div>"
        f"{graph_svg(found['nodes'], found['edges'])}</div>"
        "<aside id=details tabindex=-1><p class=quiet>Click a box, or walk with the arrow keys: "
        "its text, numbers, errors and values are shown here.</p></aside></div>"
    )


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


# ------------------------------------------------------------------------ tables


def _ranking(found: Json) -> str:
    errors = found["errors"]
    if errors is None or not errors["ranking"]:
        return "<p class=quiet>Not measured: it takes data.</p>"
    nodes = {node["id"]: node for node in found["nodes"]}
    rows = []
    for id in errors["ranking"][:_MOST_ROWS]:
        node = nodes[id]
        error = node["error"]
        alone, whole, share = error["isolated"], error["cumulative"] or {}, error["share"] or 0.0
        bar = f"<span class=bar><i style=width:{100 * share:.1f}%></i></span>"
        rows.append(
            f'<tr><td><button class=jump data-id="{_t(id)}">{_t(node["title"])}</button></td>'
            f"<td>{_t(node['kind'])}</td><td class=n>{100 * share:.1f} %{bar}</td>"
            f"<td class=n>{_db(alone['db'])}</td><td class=n>{_db(whole.get('db'))}</td>"
            f"<td>{_causes(error['causes'])}</td>"
            f"<td class=n>{100 * (alone['bias'] or 0):.0f} %</td>"
            f"<td class=n>{100 * (error['clipped'] or 0):.2g} %</td></tr>"
        )
    heads = ("op", "kind", "share", "alone, dB", "in all, dB", "causes", "mean shift", "clipped")
    told = (
        f"The error of each op alone, carried to the outputs by the float network, on "
        f"{errors['shared_samples']} samples: together {_db(errors['explained_db'])} dB, and the "
        f"whole integer network {_db(errors['db'])} dB on {errors['samples']}."
    )
    key = "".join(f"<i class=c-{c}>{c}</i>" for c in _CAUSES)
    return f"<p>{told}</p><p class=key>{key}</p>{_table(heads, rows)}"


_CAUSES = ("weights", "bias", "clipping", "rounding", "requantize", "table")


def _causes(causes: dict[str, float]) -> str:
    total = sum(v or 0.0 for v in causes.values()) or 1.0
    parts = "".join(
        f'<i class=c-{_t(c)} style="width:{100 * (v or 0) / total:.1f}%" '
        f'title="{_t(c)} {100 * (v or 0):.0f} %"></i>'
        for c, v in causes.items()
    )
    return f"<span class=causes>{parts}</span>"


def _answers(compared: Json) -> str:
    lines = [f"{compared['samples']} samples, {compared['count']} with another largest output."]
    for key, name in (("of_float", "float"), ("of_integer", "integer")):
        scores = compared[key] or {}
        if scores.get("top1") is not None:
            lines.append(f"Top-1 of the {name} network: {100 * scores['top1']:.2f} %.")
    if compared["right_to_wrong"] or compared["wrong_to_right"]:
        lines.append(
            f"{compared['right_to_wrong']} became wrong, {compared['wrong_to_right']} right."
        )
    shown = "".join(_sample(one) for one in compared["changed"])
    pairs = [
        f"<tr><td>{_t(a)}</td><td>{_t(b)}</td><td class=n>{n}</td></tr>"
        for a, b, n in compared["pairs"][:_MOST_ROWS]
    ]
    table = _table(("float", "integer", "samples"), pairs) if pairs else ""
    return f"<p>{_t(' '.join(lines))}</p><div class=samples>{shown}</div>{table}"


def _sample(one: Json) -> str:
    image = f'<img alt="" src="{_t(one["image"])}">' if one["image"] else ""
    label = "" if one["label"] is None else f"<small>label {_t(one['label'])}</small>"
    return (
        f"<figure>{image}<figcaption>{_t(one['name'])}<br>{_t(one['of_float'])} → "
        f"<b>{_t(one['of_integer'])}</b>{label}</figcaption></figure>"
    )


def _passes(passes: Sequence[Json]) -> str:
    if not passes:
        return "<p class=quiet>Not kept: an earlier version saved the network.</p>"
    rows = [_pass(n, one) for n, one in enumerate(passes, 1)]
    chart = timeline(passes)
    told = (
        "<p>Ratio of the outputs to those of the model behind each pass, on two samples.</p>"
        if chart
        else "<p class=quiet>How near outputs stay was not measured: compile with --dump, or give "
        "--model and --calibration.</p>"
    )
    return f"{told}{chart}<div class=passes>{''.join(rows)}</div>"


def _pass(n: int, one: Json) -> str:
    figures = [
        f"{one['did']} done",
        f"{one['left']} left",
        f"{one['lines']} lines",
        "" if one["moved"] is None else f"moved by {one['moved']:.2g}",
        "exact" if one["exact"] else "" if one["db"] is None else f"{one['db']:.1f} dB",
        "" if one["seconds"] is None else f"{one['seconds']:.2f} s",
        "" if one["peak"] is None else human(one["peak"]),
    ]
    events = "".join(
        f"<li class=e-{_t(kind)}>{_t(kind)} {_t(text)}"
        + (f"<code>{_t(line)}</code>" if line else "")
        + "</li>"
        for kind, text, line in one["events"]
    )
    if one["more_events"]:
        events += f"<li>and {one['more_events']} more: qcomp passes DIR --pass {n}</li>"
    diff = "".join(f'<span class="d{_SIGNS[line[:1]]}">{_t(line)}</span>' for line in one["diff"])
    if one["more_diff"]:
        diff += f"<span>and {one['more_diff']} more: qcomp passes DIR --pass {n}</span>"
    told = "".join(f"<span>{_t(f)}</span>" for f in figures if f)
    return (
        f"<details><summary><b>{n} {_t(one['name'])}</b>{told}</summary>"
        f"<ul>{events}</ul><pre>{diff}</pre></details>"
    )


_SIGNS = {"-": "-out", "+": "-in", "~": "-other"}


def _sizes(found: Json) -> str:
    sizes = found["sizes"]
    by_op = sorted(
        ((sum(c["bytes"] for c in n.get("constants", ())), n) for n in found["nodes"]),
        key=lambda pair: -pair[0],
    )
    total = sum(size for size, _ in by_op) or 1
    most = max(by_op[0][0], 1) if by_op else 1
    rows = [
        f'<tr><td><button class=jump data-id="{_t(n["id"])}">{_t(n["title"])}</button></td>'
        f"<td>{_t(n['kind'])}</td><td class=n>{size:,}</td><td class=n>{100 * size / total:.1f} %"
        f"<span class=bar><i style=width:{100 * size / most:.1f}%></i></span></td></tr>"
        for size, n in by_op[:_MOST_ROWS]
        if size
    ]
    rest = sum(size for size, _ in by_op[_MOST_ROWS:])
    if rest:
        rows.append(f"<tr><td>the others</td><td></td><td class=n>{rest:,}</td><td></td></tr>")
    facts = [
        ("weights and parameters in the library", sizes["weights"]),
        ("objects, code and data", sizes["code"]),
        ("arena", sizes["arena"]),
        ("live at once at most", sizes["live"]),
    ]
    listed = "".join(f"<tr><td>{n}</td><td class=n>{v:,}</td></tr>" for n, v in facts)
    memory = found["memory"]
    plan = (
        "<p class=quiet>The memory plan of this target is not known.</p>"
        if memory is None
        else f"<p>Who holds which bytes of the arena while the ops run in order, for "
        f"{_t(memory['isa'])}; a box per buffer.</p>{arena(memory)}"
    )
    return f"{plan}{_table(('bytes', ''), [listed])}{_table(('op', 'kind', 'bytes', ''), rows)}"


def _notes(found: Json) -> str:
    notes = "".join(f"<li>{_t(note)}</li>" for note in found["notes"])
    config = json.dumps(found["config"], indent=1, default=str)
    ends = [
        f"<tr><td>{kind}</td><td>{_t(one['name'])}</td><td>{_t(one['dtype'])} "
        f"{'x'.join(map(str, one['shape']))}</td><td class=n>{one['scale']:.6g}</td>"
        f"<td class=n>{one['zero_point']}</td></tr>"
        for kind, many in (("input", found["inputs"]), ("output", found["outputs"]))
        for one in many
    ]
    return (
        f"<ul>{notes}</ul>{_table(('', 'name', 'type', 'scale', 'zero point'), ends)}"
        f"<details><summary>Every choice</summary><pre>{_t(config)}</pre></details>"
    )


def _footer(found: Json) -> str:
    return (
        f"<footer>qcomp {_t(found['qcomp'])}, {_t(found['made'])}, in {found['seconds']:.1f} s"
        "</footer>"
    )


def _table(heads: Iterable[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{h}</th>" for h in heads)
    return (
        f"<div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _db(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _t(value: Any) -> str:
    """Text, escaped, also for attributes in quotes."""
    return html.escape(str(value))
