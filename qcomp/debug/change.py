"""A property that has another value in each of two compilations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_NOTHING = "nothing"


@dataclass(frozen=True)
class Change:
    """A property of something that has another value in each of the compilations, as text."""

    where: str
    what: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.a} -> {self.b}"


def changed(where: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    """Fields that differ, also where only one has them."""
    for name in dict.fromkeys((*a, *b)):
        texts = [str(fields[name]) if name in fields else _NOTHING for fields in (a, b)]
        if texts[0] != texts[1]:
            yield Change(where, name, *texts)
