"""The distribution of a tensor's values, summarised while they stream by.

Every estimator of a range works on this summary, so one pass over the data serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.histogram import Bins, Histogram
from qcomp.quant.rows import RowSample
from qcomp.quant.spread import spread

Float = NDArray[np.floating]
Range = tuple[float, float]


@dataclass
class AverageExtremes:
    """Averages of the smallest and the largest value of each batch.

    Exponential once 1 / (1 - momentum) batches are in; before, the plain mean, so the first batch
    weighs no more than the others.
    """

    momentum: float = 0.9
    low: float = 0.0
    high: float = 0.0
    batches: int = 0

    def update(self, low: float, high: float) -> None:
        self.batches += 1
        weight = max(1.0 / self.batches, 1.0 - self.momentum)
        self.low += weight * (low - self.low)
        self.high += weight * (high - self.high)


@dataclass(eq=False)
class Distribution:
    """The values of one tensor: extremes, their averages, a histogram and, if asked for, rows.

    Memory does not grow with the number of batches. Of each batch about `counted` values are in the
    histogram, evenly spread; None: all of them.
    """

    counted: int | None = None
    histogram: Histogram = field(default_factory=Histogram)
    average: AverageExtremes = field(default_factory=AverageExtremes)
    rows: RowSample | None = None

    def update(self, x: Float) -> None:
        """Take a batch of any shape; ValueError if it is empty or not finite."""
        if x.size == 0:
            raise ValueError("no values")
        low, high = float(x.min()), float(x.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("NaN or infinity among the values")
        some = x if self.counted is None else spread(x, self.counted, self.average.batches)
        self.average.update(low, high)
        self.histogram.update(some, low, high)
        if self.rows is not None:
            self.rows.update(x)

    @property
    def extremes(self) -> Range:
        """The smallest and the largest value of all; ValueError before the first update."""
        self._expect_values()
        return self.histogram.low, self.histogram.high

    @property
    def is_constant(self) -> bool:
        """Whether one value was seen several times, and no other."""
        low, high = self.extremes
        return low == high and self.bins.total > 1

    @property
    def bins(self) -> Bins:
        """The histogram in ascending order; ValueError before the first update."""
        self._expect_values()
        return self.histogram.bins()

    def _expect_values(self) -> None:
        if self.average.batches == 0:
            raise ValueError("no values were observed")
