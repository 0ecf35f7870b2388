"""Windows along one axis as data: where their taps lie, and which of them leave the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WindowAxis:
    """One axis of a pooling: `results` windows over `size` elements; src and dst are strides."""

    results: int
    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    src: int
    dst: int

    def inside(self, position: int) -> range:
        """The taps of a window that lie within the source."""
        start = position * self.stride - self.before
        low = max(0, -(start // self.dilation))
        high = min(self.kernel, (self.size - 1 - start) // self.dilation + 1)
        return range(low, max(low, high))

    @property
    def interior(self) -> tuple[int, int]:
        """The positions [first, last) whose windows lie wholly within the source."""
        whole = [i for i in range(self.results) if len(self.inside(i)) == self.kernel]
        return (whole[0], whole[-1] + 1) if whole else (0, 0)

    def windows(self, positions: int) -> Sequence[frozenset[int]]:
        """The elements of neighbouring windows, counted from the first one's first."""
        span = self.kernel * self.dilation
        starts = range(0, positions * self.stride, self.stride)
        return [frozenset(range(start, start + span, self.dilation)) for start in starts]

    def elements(self, positions: int) -> Sequence[int]:
        """All elements of neighbouring windows."""
        return sorted(frozenset.union(*self.windows(positions)))

    @property
    def is_whole(self) -> bool:
        return self.interior == (0, self.results)

    def table(self) -> NDArray[np.int32]:
        """Per position the byte offset of the first tap inside, and the number of taps inside."""
        rows = []
        for i in range(self.results):
            taps = self.inside(i)
            first = i * self.stride - self.before + taps.start * self.dilation
            rows.append((first * self.src if taps else 0, len(taps)))
        return np.array(rows, np.int32)
