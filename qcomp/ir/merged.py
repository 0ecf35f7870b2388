"""Tables that several modules write together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")
Row = TypeVar("Row")


def merged(*tables: Mapping[Key, Row]) -> dict[Key, Row]:
    """The rows of all tables; ValueError on a key that two of them have."""
    rows: dict[Key, Row] = {}
    for table in tables:
        if both := rows.keys() & table.keys():
            names = sorted(getattr(key, "__name__", str(key)) for key in both)
            raise ValueError(f"two tables have a row of {', '.join(names)}; expected one")
        rows.update(table)
    return rows
