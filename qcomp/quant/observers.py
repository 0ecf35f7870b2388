"""Observers: what a tensor's values were, summarised while they stream by.

Each takes batches with `update` and answers `range()`; none keeps samples. Minimum
and maximum, percentiles and other rules are compared by Wu et al., "Integer quantization for deep
learning inference: principles and empirical evaluation" (2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.clipping import best_range
from qcomp.quant.histogram import Histogram

Float = NDArray[np.floating]
Range = tuple[float, float]


class Observer(Protocol):
    """The contract of an observer; `range` needs at least one update."""

    def update(self, x: Float) -> None:
        """Take a batch of any shape; ValueError if it is empty or not finite."""
        ...

    def range(self) -> Range:
        """The interval to represent, low <= high; it need not contain 0."""
        ...


def _extremes(x: Float) -> Range:
    if x.size == 0:
        raise ValueError("no values")
    low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("NaN or infinity among the values")
    return low, high


@dataclass
class MinMax:
    """The smallest and the largest value of all: nothing is clipped."""

    low: float = np.inf
    high: float = -np.inf

    def update(self, x: Float) -> None:
        low, high = _extremes(x)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> Range:
        return _known(self.low, self.high)


@dataclass
class MovingAverage:
    """Average of each batch's extremes (Jacob et al., CVPR 2018, section 3.1).

    An exponential one once 1 / (1 - momentum) batches are in; before, the plain mean, so the first
    batch weighs no more than the others.
    """

    momentum: float = 0.9
    low: float = np.inf
    high: float = -np.inf
    batches: int = 0

    def update(self, x: Float) -> None:
        low, high = _extremes(x)
        self.batches += 1
        if self.batches == 1:
            self.low, self.high = low, high
            return
        weight = max(1.0 / self.batches, 1.0 - self.momentum)
        self.low += weight * (low - self.low)
        self.high += weight * (high - self.high)

    def range(self) -> Range:
        return _known(self.low, self.high)


@dataclass
class Percentile:
    """All but (100 - percentile) % of the values at each end (McKinstry et al., 2018)."""

    percentile: float = 99.999
    histogram: Histogram = field(default_factory=Histogram)

    def update(self, x: Float) -> None:
        _extremes(x)
        self.histogram.update(x)

    def range(self) -> Range:
        _known(self.histogram.low, self.histogram.high)
        bins = self.histogram.bins()
        below = np.concatenate([[0], np.cumsum(bins.count)]) / bins.total
        share = 1.0 - self.percentile / 100.0

        def quantile(q: float) -> float:
            i = int(np.clip(np.searchsorted(below, q, side="right") - 1, 0, bins.count.size - 1))
            part = np.clip((q - below[i]) / (below[i + 1] - below[i]), 0.0, 1.0)
            return float(bins.left[i] + part * (bins.right[i] - bins.left[i]))

        return quantile(share), quantile(1.0 - share)


@dataclass
class LeastSquares:
    """The range whose 8-bit quantization has the least mean squared error; see clipping.py."""

    qmin: int = -128
    qmax: int = 127
    histogram: Histogram = field(default_factory=Histogram)

    def update(self, x: Float) -> None:
        _extremes(x)
        self.histogram.update(x)

    def range(self) -> Range:
        _known(self.histogram.low, self.histogram.high)
        return best_range(self.histogram.bins(), self.qmin, self.qmax)


def _known(low: float, high: float) -> Range:
    if low > high:
        raise ValueError("no values were observed")
    return low, high


OBSERVERS: Mapping[str, Callable[[], Observer]] = {
    "minmax": MinMax,
    "ema": MovingAverage,
    "percentile": Percentile,
    "mse": LeastSquares,
}


def make_observer(kind: str) -> Observer:
    """A fresh observer; ValueError that lists the kinds there are."""
    if kind not in OBSERVERS:
        raise ValueError(f"no observer {kind!r}; choose one of {', '.join(OBSERVERS)}")
    return OBSERVERS[kind]()


@dataclass
class ChannelMean:
    """Running mean over everything but the last axis, in float64."""

    sums: NDArray[np.float64] | None = None
    count: int = 0

    def update(self, x: Float) -> None:
        rows = x.reshape(-1, x.shape[-1])
        sums = rows.sum(axis=0, dtype=np.float64)
        self.sums = sums if self.sums is None else self.sums + sums
        self.count += rows.shape[0]

    def mean(self) -> NDArray[np.float64]:
        """Mean of each channel [C]."""
        if self.sums is None:
            raise ValueError("no values were observed")
        return self.sums / self.count
