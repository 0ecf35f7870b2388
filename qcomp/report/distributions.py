"""The values of each float tensor, and the ranges that estimators would choose for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from qcomp.calibration.collect import COUNTED
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.distribution import Distribution
from qcomp.quant.estimators import ESTIMATORS
from qcomp.quant.integer_grid import IntegerGrid
from qcomp.quant.qparams import QParams

BINS = 64

Range = tuple[float, float]


@dataclass(frozen=True)
class Values:
    """Of one tensor: counts of equal bins from `low` to `high`, which hold all values and the
    chosen range; ranges by estimator.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    least: float
    most: float
    ranges: Mapping[str, Range]


class Observed:
    """Distributions of float tensors, sample by sample."""

    def __init__(self, ids: Iterable[TensorId]) -> None:
        self._found = {id: Distribution(COUNTED) for id in ids}

    def add(self, values: Mapping[TensorId, Array]) -> None:
        for id, distribution in self._found.items():
            distribution.update(values[id])

    def of(self, id: TensorId, q: QParams) -> Values:
        """As it would be rounded by parameters of that width."""
        distribution = self._found[id]
        least, most = distribution.extremes
        low, high = min(least, q.range[0]), max(most, q.range[1])
        bins = distribution.bins
        middle = (bins.left + bins.right) / 2
        edges = np.linspace(low, high, BINS + 1)
        counts, _ = np.histogram(middle, bins=edges, weights=bins.count)
        grid = IntegerGrid.of(q.bits, symmetric=q.bits > 8)
        ranges = {name: estimate(distribution, grid) for name, estimate in ESTIMATORS.items()}
        return Values(low, high, tuple(int(n) for n in counts), least, most, ranges)
