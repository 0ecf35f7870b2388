"""How often each tensor of an integer network has each of its integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.qparams import QParams

BINS = 256


@dataclass(frozen=True)
class IntegerValues:
    """Of one tensor, over all samples.

    counts: of `BINS` bins of `width` integers each, from `low`, the least of the type.
    at_ends: the share of values that are integers of clipped ones (`QParams.ends`): those that were
        clipped, and those that are exactly there.
    """

    low: int
    width: int
    counts: tuple[int, ...]
    at_ends: float

    @property
    def used(self) -> tuple[int, int]:
        """The least and the greatest integer that there is, to `width`."""
        filled = np.flatnonzero(self.counts)
        first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (0, 0)
        return self.low + first * self.width, self.low + (last + 1) * self.width - 1


class IntegerCounts:
    """Of integer tensors of 8 or 16 bits, sample by sample; memory does not grow with samples."""

    def __init__(self) -> None:
        self._lows: dict[TensorId, tuple[int, int]] = {}
        self._counts: dict[TensorId, NDArray[np.int64]] = {}
        self._ends: dict[TensorId, int] = {}

    def add(self, id: TensorId, values: Array, q: QParams) -> None:
        """One sample's integers of one tensor."""
        low, wide = int(np.iinfo(values.dtype).min), values.itemsize > 1
        self._lows[id] = low, 1 << 8 if wide else 1
        high = (values >> 8).astype(np.int8) if wide else values
        counts = np.bincount(high.ravel().view(np.uint8), minlength=BINS)
        if low < 0:
            counts = np.roll(counts, BINS // 2)  # the least first
        self._counts[id] = self._counts.get(id, 0) + counts
        at_ends = sum(int(np.count_nonzero(values == end)) for end in q.ends)
        self._ends[id] = self._ends.get(id, 0) + at_ends

    def of(self, id: TensorId) -> IntegerValues | None:
        """None where no values of it were given."""
        if (counts := self._counts.get(id)) is None:
            return None
        low, width = self._lows[id]
        share = self._ends[id] / max(int(counts.sum()), 1)
        return IntegerValues(low, width, tuple(map(int, counts)), share)
