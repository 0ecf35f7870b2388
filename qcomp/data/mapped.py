"""Any loader as samples, by way of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Mapped:
    """The items of a loader, each as `transform` makes it."""

    source: Iterable[Any]
    transform: Callable[[Any], Any]

    def __iter__(self) -> Iterator[Any]:
        return map(self.transform, self.source)


def samples(source: Iterable[Any], *, transform: Callable[[Any], Any]) -> Mapped:
    """The items of a loader of torch, a data set of Hugging Face or any other iterable.

    transform: takes an item and gives an array, a dict by input name, or a tuple.

    >>> data = qcomp.data.samples(dataset, transform=lambda row: row["pixel_values"])
    """
    return Mapped(source, transform)
