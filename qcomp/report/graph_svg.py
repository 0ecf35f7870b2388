"""The graph as SVG: a box for each input and op, coloured by its error, and a line for each use.

Names come from the model, so all text is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from qcomp.report.colours import of_db, of_share
from qcomp.report.drawing import Drawing, Point, drawn

WIDTH, HEIGHT = 190.0, 40.0
_MARGIN = 16.0
_LONGEST = 25  # characters of a name

Json = dict[str, Any]


def graph_svg(nodes: Sequence[Json], edges: Sequence[Sequence[int]], us: float | None) -> str:
    """`nodes` and `edges` as facts have them; the script finds boxes by `data-i`.

    us: microseconds of all ops, where they were timed.
    """
    drawing = drawn([(WIDTH, HEIGHT)] * len(nodes), [(a, b) for a, b in edges])
    box = (
        f"{-_MARGIN:g} {-_MARGIN:g} "
        f"{drawing.width + 2 * _MARGIN:.0f} {drawing.height + 2 * _MARGIN:.0f}"
    )
    lines = "".join(
        f'<path d="{_curve(points)}" data-a="{a}" data-b="{b}"/>'
        for (a, b), points in zip(edges, drawing.edges, strict=True)
    )
    boxes = "".join(_box(i, node, at, us) for i, (node, at) in _placed(nodes, drawing))
    return (
        f'<svg id="graph" viewBox="{box}" role="group" tabindex="0" '
        'aria-label="the graph, from top to bottom">'
        f'<g class="edges">{lines}</g><g class="nodes">{boxes}</g></svg>'
    )


def _placed(nodes: Sequence[Json], drawing: Drawing) -> list[tuple[int, tuple[Json, Point]]]:
    return list(enumerate(zip(nodes, drawing.nodes, strict=True)))


def _curve(points: Sequence[Point]) -> str:
    """Through all points, upright in each."""
    (x, y), *rest = points
    parts = [f"M{x:.0f} {y:.0f}"]
    for to_x, to_y in rest:
        middle = (y + to_y) / 2
        parts.append(f"C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}")
        x, y = to_x, to_y
    return "".join(parts)


def _box(i: int, node: Json, at: Point, us: float | None) -> str:
    error = node.get("error") or {}
    alone, whole = error.get("isolated") or {}, error.get("cumulative") or {}
    db, all_db, share = alone.get("db"), whole.get("db"), error.get("share")
    figure = "" if db is None else f"{db:.1f} dB"
    label = f"{node['kind']} {node['title']}" + (f", {figure} alone" if figure else "")
    x, y = at[0] - WIDTH / 2, at[1] - HEIGHT / 2
    classes = {"alone": of_db(db), "whole": of_db(all_db), "share": of_share(share)}
    if us:
        classes["time"] = of_share((node.get("us") or 0.0) / us)
    colours = " ".join(f'data-{name}="{kind}"' for name, kind in classes.items())
    return (
        f'<g class="node {of_db(db)}" data-i="{i}" {colours} role="button" '
        f'aria-label="{html.escape(label)}" transform="translate({x:.0f} {y:.0f})">'
        f'<rect width="{WIDTH:g}" height="{HEIGHT:g}" rx="6"/>'
        f'<text x="8" y="16"><tspan class="kind">{html.escape(node["kind"])}</tspan></text>'
        f'<text class="figure" x="{WIDTH - 8:g}" y="16">{figure}</text>'
        f'<text class="name" x="8" y="32">{html.escape(_short(node["title"]))}</text></g>'
    )


def _short(name: str) -> str:
    """The end of a long name tells more than its beginning."""
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST + 1 :]}"
