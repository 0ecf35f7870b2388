"""Layers that run a few rows at a time, so that what lies between them stays in the near caches.

A chain is layers of which each is read by the next one only. In steps, each computes the units of
work that the next one needs; what lies between is a window of rows that moves down the image.
Before a step, the rows that are still needed are copied to the window's start, so that nothing is
computed twice. The kernels are those of whole images: they get pointers as if the window were one.

Threads share a chain in bands of the last result: each has windows of its own, and computes for
itself the few rows that the band above it has computed too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu.lower.context import Place
from qcomp.targets.cpu.program import Call, Extent, Reach

_NOWHERE = 1 << 62  # behind all buffers

Counts = Sequence[int]  # of units, by stage


@dataclass(frozen=True, eq=False)
class Stage:
    """A layer of a chain: the call of its kernel, and the place of its result."""

    call: Call
    place: Place

    @property
    def reach(self) -> Reach:
        assert self.call.reach is not None
        return self.call.reach

    @property
    def row(self) -> int:
        """Bytes from one row of the result to the next."""
        return self.place.layout.strides[1]

    @property
    def reads(self) -> int:
        """Where the source pointer is in its buffer."""
        return self.call.arguments[0].offset

    @property
    def writes(self) -> int:
        return self.call.arguments[1].offset


@dataclass(frozen=True)
class Window:
    """A step has bytes [start, end) of a whole buffer at hand; those before `kept` already were."""

    start: int
    kept: int
    end: int


@dataclass(frozen=True)
class Step:
    """Units [before, now) of each stage, and the windows of all stages but the last."""

    before: Counts
    now: Counts
    windows: Sequence[Window]


@dataclass(frozen=True)
class Band:
    steps: Sequence[Step]

    def window_bytes(self, n: int) -> int:
        return max(step.windows[n].end - step.windows[n].start for step in self.steps)

    @property
    def bytes(self) -> int:
        return sum(self.window_bytes(n) for n in range(len(self.steps[0].windows)))


def plan_band(stages: Sequence[Stage], begin: int, end: int, steps: int) -> Band:
    """Units [begin, end) of the last stage in `steps` steps."""
    before = _skipped(stages, begin)
    windows: Sequence[Window | None] = [None] * (len(stages) - 1)
    planned = []
    for done in _needed(stages, [begin + (end - begin) * n // steps for n in range(1, steps + 1)]):
        now = [max(counts) for counts in zip(before, done, strict=True)]
        windows = [
            _moved(window, *pair, before[n : n + 2], now[n : n + 2])
            for n, (window, pair) in enumerate(zip(windows, pairwise(stages), strict=True))
        ]
        planned.append(Step(before, now, [w for w in windows if w is not None]))
        before = now
    return Band(planned)


def _skipped(stages: Sequence[Stage], begin: int) -> list[int]:
    """The units of each stage that those of the last one from `begin` do not need."""
    counts = [begin]
    for source, reader in reversed(list(pairwise(stages))):
        first = reader.reads + _from(reader.reach.src)[counts[-1]]
        complete = source.writes + _until(source.reach.dst)
        counts.append(max(0, int(np.searchsorted(complete, first, side="right")) - 1))
    return counts[::-1]


def _needed(stages: Sequence[Stage], last: Counts) -> list[tuple[int, ...]]:
    """The units of each stage that must be done when so many of the last one are."""
    columns = [list(last)]
    for source, reader in reversed(list(pairwise(stages))):
        until = reader.reads + _until(reader.reach.src)
        missing = source.writes + _from(source.reach.dst)  # all before it is written
        columns.append([int(n) for n in np.searchsorted(missing, until[columns[-1]])])
    return list(zip(*reversed(columns), strict=True))


def _moved(
    window: Window | None, source: Stage, reader: Stage, before: Counts, now: Counts
) -> Window:
    """The window between two stages, for their units from `before` to `now`."""
    row = source.row
    start = min(
        reader.reads + int(_from(reader.reach.src)[before[1]]),
        source.writes + int(_from(source.reach.dst)[before[0]]),
    )
    start = start // row * row
    end = max(
        reader.reads + int(_until(reader.reach.src)[now[1]]),
        source.writes + int(_until(source.reach.dst)[now[0]]),
    )
    end = -(-end // row) * row
    if window is None:
        return Window(start, start, end)
    start = max(start, window.start)
    if window.end - start > start - window.start:  # no room to copy what is kept
        start = window.start
    return Window(start, window.end, max(window.end, end))


def _from(extent: Extent) -> NDArray[np.int64]:
    """[n]: the first byte that unit n or a later one touches; none are left at the end."""
    return np.append(np.minimum.accumulate(extent.begin[::-1])[::-1], _NOWHERE)


def _until(extent: Extent) -> NDArray[np.int64]:
    """[n]: the end of the bytes that units before n touch."""
    return np.append(-_NOWHERE, np.maximum.accumulate(extent.end))
