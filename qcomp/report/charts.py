"""Charts of a report as SVG: how near outputs stay pass by pass, and who holds the arena when."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

_WIDTH, _HEIGHT = 980.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 90.0, 14.0, 110.0
_MOST_DB = 120.0  # float arithmetic itself


def timeline(passes: Sequence[Json]) -> str:
    """The ratio of the outputs behind each pass that was measured; nothing where none was."""
    ratios = [_MOST_DB if p["exact"] else p["db"] for p in passes]
    known = [(i, min(db, _MOST_DB)) for i, db in enumerate(ratios) if db is not None]
    if not known:
        return ""
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(passes) - 1, 1)
    height = _HEIGHT - _TOP - _BOTTOM

    def x(i: float) -> float:
        return _LEFT + i * step

    def y(db: float) -> float:
        return _TOP + height * (1 - max(db, 0.0) / _MOST_DB)

    lines = "".join(
        f'<line class="rule" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y(db):.1f}" '
        f'y2="{y(db):.1f}"/><text class="axis" x="{_LEFT - 6:g}" y="{y(db) + 4:.1f}">{db}</text>'
        for db in (0, 20, 40, 60, 80, 100, 120)
    )
    path = " ".join(f"{x(i):.1f},{y(db):.1f}" for i, db in known)
    dots = "".join(
        f'<circle cx="{x(i):.1f}" cy="{y(db):.1f}" r="4"><title>{html.escape(_told(passes[i]))}'
        "</title></circle>"
        for i, db in known
    )
    names = "".join(
        f'<text class="pass" transform="translate({x(i):.1f} {_HEIGHT - _BOTTOM + 14:g}) '
        f'rotate(40)">{html.escape(p["name"])}</text>'
        for i, p in enumerate(passes)
    )
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
        'aria-label="ratio of the outputs to those of the model, in dB, behind each pass">'
        f'{lines}<polyline points="{path}"/>{dots}{names}</svg>'
    )


def _told(one: Json) -> str:
    return f"{one['name']}: " + ("exact" if one["exact"] else f"{one['db']:.1f} dB")


def arena(memory: Json) -> str:
    """Steps from left to right, bytes of the arena from bottom to top."""
    width, height = _WIDTH - _LEFT - _RIGHT, 300.0
    steps, size = memory["steps"] + 1, max(memory["arena"], 1)
    boxes = []
    for i, (name, offset, bytes_, first, last) in enumerate(memory["held"]):
        x, w = _LEFT + width * first / steps, width * (last - first + 1) / steps
        h = height * bytes_ / size
        y = _TOP + height * (1 - offset / size) - h
        told = f"{name}: bytes {offset:,} to {offset + bytes_:,}, steps {first} to {last}"
        boxes.append(
            f'<rect class="held h{i % 6}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" '
            f'height="{max(h, 0.5):.1f}" data-id="{html.escape(name)}">'
            f"<title>{html.escape(told)}</title></rect>"
        )
    marks = "".join(
        f'<text class="axis" x="{_LEFT - 6:g}" y="{_TOP + height * (1 - part) + 4:.1f}">'
        f"{human(size * part)}</text>"
        for part in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    below = (
        f'<text class="axis first" x="{_LEFT:g}" y="{_TOP + height + 18:g}">step 0</text>'
        f'<text class="axis" x="{_WIDTH - _RIGHT:g}" y="{_TOP + height + 18:g}">'
        f"{memory['steps']}</text>"
    )
    frame = (
        f'<rect class="frame" x="{_LEFT:g}" y="{_TOP:g}" width="{width:g}" height="{height:g}"/>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {_TOP + height + 26:g}" role="img" '
        f'aria-label="who holds which bytes of the arena, step by step">{frame}{"".join(boxes)}'
        f"{marks}{below}</svg>"
    )


def human(size: float) -> str:
    """Bytes, in KiB or MiB from there on."""
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"
