"""A streaming histogram whose bins are the floats themselves.

A bin is a run of neighbouring float32 numbers: those that share sign, exponent and the first 8 of
their 23 mantissa bits, so its width is 2^-8 of the octave it lies in. Such bins need no range to be
guessed before the data is seen: nothing is clipped, regrown or merged, an outlier of 1e30 costs one
bin and no resolution elsewhere, and the counts do not depend on the order of the batches.
DDSketch (Masson, Rim and Lee, VLDB 2019) is the same idea with exactly logarithmic bins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_DROPPED_BITS = 15  # of the 32: leaves sign, 8 exponent bits, 8 mantissa bits
_KEYS = 1 << (32 - _DROPPED_BITS)
_NEGATIVE = _KEYS // 2  # keys from here on have the sign bit
_WAITING = 1 << 16  # values that are counted at once, which takes a pass over all keys
_MAX_FINITE = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Bins:
    """Intervals in ascending order and how many values fell in each; a width of 0 is one number."""

    left: F64
    right: F64
    count: I64

    @cached_property
    def total(self) -> int:
        return int(self.count.sum())

    @cached_property
    def as_knots(self) -> tuple[F64, F64, F64, F64]:
        """For sums over all values of a function f whose integral from 0 is F.

        Knots t and their weights: the sum of weight * F(t) is that of count / width * (F(right) -
        F(left)) over all bins of some width. Numbers that are bins of their own, and their counts.
        """
        width = self.right - self.left
        spread = width > 0
        density = self.count[spread] / width[spread]
        ends = np.concatenate([self.left[spread], self.right[spread]])
        knots, place = np.unique(ends, return_inverse=True)
        weights = np.zeros(knots.size)
        np.add.at(weights, place, np.concatenate([-density, density]))
        return knots, weights, self.left[~spread], self.count[~spread].astype(np.float64)


@dataclass(eq=False)
class Histogram:
    """Counts of finite float32 values; memory grows with the octaves seen, not the samples."""

    low: float = np.inf
    high: float = -np.inf
    _waiting: list[NDArray[np.uint32]] = field(default_factory=list, repr=False)
    _keys: I64 = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    _counts: I64 = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    def update(self, x: NDArray[np.floating], low: float, high: float) -> None:
        """Count every element, which is finite.

        The extremes may be those of more values; they are there at least once.
        """
        values = np.ascontiguousarray(x, np.float32).reshape(-1)
        self.low = min(self.low, low)
        self.high = max(self.high, high)
        self._waiting.append(values.view(np.uint32) >> np.uint32(_DROPPED_BITS))
        if sum(keys.size for keys in self._waiting) >= _WAITING:
            self._count()

    def _count(self) -> None:
        """Add what waits."""
        ends = np.array([self.low, self.high], np.float32).view(np.uint32) >> _DROPPED_BITS
        total = np.bincount(np.concatenate(self._waiting), minlength=_KEYS)
        total[self._keys] += self._counts
        total[ends] = np.maximum(total[ends], 1)
        self._keys = np.flatnonzero(total != 0)  # ten times as fast on booleans
        self._counts = total[self._keys]
        self._waiting = []

    def bins(self) -> Bins:
        """Ascending bins, cut to the extremes seen, so a saturated value (6.0) is one number.

        Zero, the most frequent value after a ReLU, has a bin of width 0 of its own.
        """
        if self._waiting:
            self._count()
        negative = self._keys >= _NEGATIVE
        magnitude = self._keys % _NEGATIVE
        near, far = _edge(magnitude), _edge(magnitude + 1)
        far = np.where(magnitude == 0, 0.0, far)  # zero and numbers below 1e-41
        left = np.where(negative, -far, near).clip(self.low, self.high)
        right = np.where(negative, -near, far).clip(self.low, self.high)
        order = np.lexsort((right, left))
        return Bins(left[order], right[order], self._counts[order])


def _edge(magnitude: I64) -> F64:
    """The smallest non-negative float32 of a key; the largest finite one past the last."""
    bits = (magnitude << _DROPPED_BITS).astype(np.uint32)
    with np.errstate(invalid="ignore"):
        edge = bits.view(np.float32).astype(np.float64)
    return np.where(np.isfinite(edge), edge, _MAX_FINITE)
