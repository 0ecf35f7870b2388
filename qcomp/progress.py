"""Progress on standard error: a bar on a terminal; elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

Item = TypeVar("Item")

SECONDS = 10.0
"""Between lines, and before the first: what takes less is not told of."""


class Bar(Protocol):
    """Counts finished items of a total."""

    def advance(self) -> None:
        """Count one more item."""
        ...

    def reach(self, done: int, total: int | None) -> None:
        """Set the count and the total; None: the total is unknown."""
        ...

    def tell(self, text: str) -> None:
        """Say something beside the count, from now on."""
        ...


class Silent:
    """Shows nothing."""

    def advance(self) -> None: ...

    def reach(self, done: int, total: int | None) -> None: ...

    def tell(self, text: str) -> None: ...


class Lines:
    """A line on a stream that is no terminal, such as a log, every few seconds of `clock`."""

    def __init__(
        self, title: str, total: int | None, stream: TextIO, clock: Callable[[], float]
    ) -> None:
        self._title, self._total, self._done, self._beside = title, total, 0, ""
        self._stream, self._clock = stream, clock
        self._began = self._told = clock()

    def advance(self) -> None:
        self.reach(self._done + 1, self._total)

    def reach(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total
        now = self._clock()
        if now - self._told >= SECONDS:
            self._told = now
            line = f"{self._title}: {self._state(now - self._began)}{self._beside}"
            print(line, file=self._stream, flush=True)

    def tell(self, text: str) -> None:
        self._beside = f"; {text}"

    def _state(self, seconds: float) -> str:
        if self._total is None or not self._done:
            return f"{self._done} done in {seconds:.0f} s"
        left = seconds * max(self._total - self._done, 0) / self._done
        share = 100 * self._done / max(self._total, self._done)
        return f"{share:.0f} % in {seconds:.0f} s, about {left:.0f} s left"


@dataclass(frozen=True)
class _Terminal:
    """A task of rich."""

    progress: Progress
    task: TaskID
    title: str

    def advance(self) -> None:
        self.progress.advance(self.task)

    def reach(self, done: int, total: int | None) -> None:
        self.progress.update(self.task, completed=done, total=total)

    def tell(self, text: str) -> None:
        self.progress.update(self.task, description=f"{self.title} ({text})")


@contextmanager
def bar(
    title: str, total: int | None = None, *, shown: bool, counted: bool = True
) -> Iterator[Bar]:
    """A bar with the time left, and with the counts unless they mean nothing to the user."""
    if not shown:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines(title, total, sys.stderr, time.monotonic)
    else:
        with _rich(counted=counted) as progress:
            yield _Terminal(progress, progress.add_task(title, total=total), title)


def _rich(*, counted: bool) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),) if counted else ()
    times = (TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}"), BarColumn(), *counts, *times, console=Console(stderr=True)
    )


def tracked(items: Iterable[Item], title: str, total: int | None, *, shown: bool) -> Iterator[Item]:
    """The items, with a bar beside; there may be more of them than `total`."""
    with bar(title, total, shown=shown) as one:
        for done, item in enumerate(items, start=1):
            yield item
            one.reach(done, None if total is None else max(total, done))
