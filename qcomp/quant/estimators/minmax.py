"""Ranges from extremes: nothing is clipped, or not on average."""

from __future__ import annotations

from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.integer_grid import IntegerGrid


def minmax(distribution: Distribution, grid: IntegerGrid) -> Range:
    """The smallest and the largest value of all (Jacob et al., CVPR 2018, section 3)."""
    del grid
    return distribution.extremes


def moving_average(distribution: Distribution, grid: IntegerGrid) -> Range:
    """The average of each batch's extremes (Jacob et al., CVPR 2018, section 3.1)."""
    del grid
    low, high = distribution.extremes
    average = distribution.average
    return max(average.low, low), min(average.high, high)
