"""Moments of a value per channel: mean, variance and bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean, standard deviation and bounds of a tensor, per channel of its last axis [C] or [1]."""

    mean: F64
    std: F64
    low: F64
    high: F64

    @property
    def range(self) -> tuple[float, float]:
        """Bounds of the whole tensor."""
        return float(self.low.min()), float(self.high.max())

    @property
    def reach(self) -> F64:
        """The width that integers must cover for each channel, zero included, [C]."""
        return np.maximum(self.high, 0.0) - np.minimum(self.low, 0.0)


@dataclass(eq=False)
class RunningMoments:
    """Moments of values that stream by; sums in float64."""

    count: int = 0
    sums: F64 | float = 0.0
    squares: F64 | float = 0.0
    low: F64 | float = np.inf
    high: F64 | float = -np.inf

    def update(self, x: NDArray[np.floating]) -> None:
        """Take a batch whose last axis is the channels; ValueError if it is not finite."""
        rows = x.reshape(-1, x.shape[-1] if x.ndim else 1).astype(np.float64)
        if not np.isfinite(rows).all():
            raise ValueError("NaN or infinity among the values")
        self.count += len(rows)
        self.sums = self.sums + rows.sum(axis=0)
        self.squares = self.squares + np.einsum("nc,nc->c", rows, rows)
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))

    def moments(self) -> Moments:
        """Moments of all values so far; ValueError before the first."""
        if not self.count:
            raise ValueError("no values were observed")
        mean = np.asarray(self.sums / self.count)
        variance = np.maximum(np.asarray(self.squares / self.count) - mean**2, 0.0)
        return Moments(mean, np.sqrt(variance), np.asarray(self.low), np.asarray(self.high))
