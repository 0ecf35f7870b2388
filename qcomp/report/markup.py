"""Pieces of markup that sections of a report share; whatever comes from a model is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

Json = dict[str, Any]

MOST_ROWS = 20


def esc(value: Any) -> str:
    """Text, escaped, also for attributes in quotes."""
    return html.escape(str(value))


def table(heads: Iterable[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{h}</th>" for h in heads)
    return (
        f"<div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def decibels(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def jump(id: str) -> str:
    return f' <button class=jump data-id="{esc(id)}">show</button>'
