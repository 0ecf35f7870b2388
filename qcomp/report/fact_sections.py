"""The sections of a report besides errors: answers, passes, memory, sizes and choices."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qcomp.report.charts import arena, human, timeline
from qcomp.report.markup import MOST_ROWS, Json, esc, table

_SIGNS = {"-": "-out", "+": "-in", "~": "-other"}


def answers_section(compared: Json) -> str:
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
        f"<tr><td>{esc(a)}</td><td>{esc(b)}</td><td class=n>{n}</td></tr>"
        for a, b, n in compared["pairs"][:MOST_ROWS]
    ]
    counted = table(("float", "integer", "samples"), pairs) if pairs else ""
    return f"<p>{esc(' '.join(lines))}</p><div class=samples>{shown}</div>{counted}"


def _sample(one: Json) -> str:
    image = f'<img alt="" src="{esc(one["image"])}">' if one["image"] else ""
    label = "" if one["label"] is None else f"<small>label {esc(one['label'])}</small>"
    return (
        f"<figure>{image}<figcaption>{esc(one['name'])}<br>{esc(one['of_float'])} → "
        f"<b>{esc(one['of_integer'])}</b>{label}</figcaption></figure>"
    )


def passes_section(passes: Sequence[Json]) -> str:
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
        f"<li class=e-{esc(kind)}>{esc(kind)} {esc(text)}"
        + (f"<code>{esc(line)}</code>" if line else "")
        + "</li>"
        for kind, text, line in one["events"]
    )
    if one["more_events"]:
        events += f"<li>and {one['more_events']} more: qcomp passes DIR --pass {n}</li>"
    diff = "".join(f'<span class="d{_SIGNS[line[:1]]}">{esc(line)}</span>' for line in one["diff"])
    if one["more_diff"]:
        diff += f"<span>and {one['more_diff']} more: qcomp passes DIR --pass {n}</span>"
    told = "".join(f"<span>{esc(f)}</span>" for f in figures if f)
    return (
        f"<details><summary><b>{n} {esc(one['name'])}</b>{told}</summary>"
        f"{_tensors(one)}<ul>{events}</ul><pre>{diff}</pre></details>"
    )


def _tensors(one: Json) -> str:
    """The farthest of those that a pass moved."""
    if not one["tensors"]:
        return ""
    rows = [f"<tr><td>{esc(n)}</td><td class=n>{db:.1f} dB</td></tr>" for n, db in one["tensors"]]
    return (
        f"<p class=quiet>{one['moved_tensors']} tensors are nearer to the model's or farther from "
        f"them since this pass; the farthest:</p>{table((), rows)}"
    )


def sizes_section(found: Json) -> str:
    sizes = found["sizes"]
    by_op = sorted(
        ((sum(c["bytes"] for c in n.get("constants", ())), n) for n in found["nodes"]),
        key=lambda pair: -pair[0],
    )
    total = sum(size for size, _ in by_op) or 1
    most = max(by_op[0][0], 1) if by_op else 1
    rows = [
        f'<tr><td><button class=jump data-id="{esc(n["id"])}">{esc(n["title"])}</button></td>'
        f"<td>{esc(n['kind'])}</td><td class=n>{size:,}</td><td class=n>{100 * size / total:.1f} %"
        f"<span class=bar><i style=width:{100 * size / most:.1f}%></i></span></td></tr>"
        for size, n in by_op[:MOST_ROWS]
        if size
    ]
    rest = sum(size for size, _ in by_op[MOST_ROWS:])
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
        f"{esc(memory['isa'])}; a box per buffer.</p>{arena(memory)}"
    )
    return f"{plan}{table(('bytes', ''), [listed])}{table(('op', 'kind', 'bytes', ''), rows)}"


def notes_section(found: Json) -> str:
    notes = "".join(f"<li>{esc(note)}</li>" for note in found["notes"])
    config = json.dumps(found["config"], indent=1, default=str)
    ends = [
        f"<tr><td>{kind}</td><td>{esc(one['name'])}</td><td>{esc(one['dtype'])} "
        f"{'x'.join(map(str, one['shape']))}</td><td class=n>{one['scale']:.6g}</td>"
        f"<td class=n>{one['zero_point']}</td></tr>"
        for kind, many in (("input", found["inputs"]), ("output", found["outputs"]))
        for one in many
    ]
    return (
        f"<ul>{notes}</ul>{table(('', 'name', 'type', 'scale', 'zero point'), ends)}"
        f"<details><summary>Every choice</summary><pre>{esc(config)}</pre></details>"
    )
