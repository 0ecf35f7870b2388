"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

Item = TypeVar("Item")


class Bar:
    """Counts finished items of a total; a bar that is not shown takes the same calls."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self) -> None:
        """Count one more item."""
        self._progress.advance(self._task)

    def reach(self, done: int, total: int | None) -> None:
        """Set the count and the total; None: the total is unknown."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def bar(
    title: str, total: int | None = None, *, shown: bool, counted: bool = True
) -> Iterator[Bar]:
    """A bar, with the counts unless they mean nothing to the user."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),) if counted else ()
    columns = (TextColumn(title), BarColumn(), *counts, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        yield Bar(progress, progress.add_task(title, total=total))


def tracked(items: Iterable[Item], title: str, total: int | None, *, shown: bool) -> Iterator[Item]:
    """The items, with a bar beside; there may be more of them than `total`."""
    with bar(title, total, shown=shown) as one:
        for done, item in enumerate(items, start=1):
            yield item
            one.reach(done, None if total is None else max(total, done))
