"""Ranges that leave out a fixed share of the values."""

from __future__ import annotations

import numpy as np

from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.integer_grid import IntegerGrid

PERCENTILE = 99.999


def percentile(distribution: Distribution, grid: IntegerGrid, share: float = PERCENTILE) -> Range:
    """All but (100 - share) % of the values at each end (McKinstry et al., 2018).

    Values are taken to be uniform within a bin of the histogram.
    """
    del grid
    bins = distribution.bins
    below = np.concatenate([[0], np.cumsum(bins.count)]) / bins.total
    left_out = 1.0 - share / 100.0

    def quantile(q: float) -> float:
        i = int(np.clip(np.searchsorted(below, q, side="right") - 1, 0, bins.count.size - 1))
        part = np.clip((q - below[i]) / (below[i + 1] - below[i]), 0.0, 1.0)
        return float(bins.left[i] + part * (bins.right[i] - bins.left[i]))

    return quantile(left_out), quantile(1.0 - left_out)
