"""A range for each channel, by the same estimators as for a whole tensor."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.distribution import Distribution
from qcomp.quant.estimators import Estimator
from qcomp.quant.histogram import F64
from qcomp.quant.integer_grid import IntegerGrid


@dataclass(eq=False)
class ChannelDistributions:
    """A distribution for each index of the last axis; about 20 KB each."""

    channels: list[Distribution] = field(default_factory=list)

    def update(self, x: NDArray[np.floating]) -> None:
        """Take a batch; ValueError if it is empty, not finite or has another number of channels."""
        rows = x.reshape(-1, x.shape[-1])
        if not self.channels:
            self.channels = [Distribution() for _ in range(rows.shape[1])]
        if len(self.channels) != rows.shape[1]:
            raise ValueError(f"{rows.shape[1]} channels after {len(self.channels)}")
        for distribution, values in zip(self.channels, rows.T, strict=True):
            distribution.update(values)

    def ranges(self, estimator: Estimator, grid: IntegerGrid) -> F64:
        """(low, high) of each channel [C, 2]; ValueError before the first update."""
        if not self.channels:
            raise ValueError("no values were observed")
        return np.array([estimator(distribution, grid) for distribution in self.channels])


def channel_ranges(
    x: NDArray[np.floating], axis: int, estimator: Estimator, grid: IntegerGrid
) -> F64:
    """(low, high) of each index of an axis [C, 2]: of a weight's output channels, say."""
    found = ChannelDistributions()
    found.update(np.moveaxis(x, axis, -1))
    return found.ranges(estimator, grid)
