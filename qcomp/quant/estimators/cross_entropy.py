"""The range of the logits that changes the predicted probabilities least.

Nagel et al., "A white paper on neural network quantization" (2021), section 3.1: for the last layer
of a classifier, of which only the order and the gaps of the largest logits matter,

    argmin  E[ - sum softmax(x) * log softmax(quantized x) ].

It is searched on a bounded sample of the rows of logits. As there, other tensors, which have no
rows of logits, get the range of least squared error.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import special

from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.estimators.mse import least_squares
from qcomp.quant.histogram import F64
from qcomp.quant.integer_grid import IntegerGrid

_COARSE = 2.0 ** (-np.arange(33) / 8)
_FINE = (np.linspace(0.92, 1.08, 9), np.linspace(0.98, 1.02, 9))


def cross_entropy(rows: F64, p: F64, low: float, high: float, grid: IntegerGrid) -> float:
    """E[-sum p log softmax(x^)] over rows x and probabilities p [N, C]; x^ is x rounded.

    [low, high] contains 0.
    """
    step, zero_point = grid.step_and_zero(np.array([low]), np.array([high]))
    rounded = np.clip(np.rint(rows / step), grid.qmin - zero_point, grid.qmax - zero_point) * step
    expected = float(np.einsum("nc,nc->", p, rounded))
    return float(special.logsumexp(rounded, axis=1).sum() - expected) / len(rows)


def least_cross_entropy(distribution: Distribution, grid: IntegerGrid) -> Range:
    """See the module. The ends are moved in turn, coarsely, then finely; of equals the widest wins.

    On a symmetric grid both move together.
    """
    if distribution.rows is None:
        return least_squares(distribution, grid)
    lowest, highest = distribution.extremes
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    rows = distribution.rows.rows.astype(np.float64)
    p = special.softmax(rows, axis=1)

    def best(candidates: Iterable[Range]) -> Range:
        return min(candidates, key=lambda ends: cross_entropy(rows, p, ends[0], ends[1], grid))

    if grid.symmetric:
        peak = bound = max(-lowest, highest)
        for factors in (_COARSE, *_FINE):
            tried = np.append(bound, np.minimum(bound * factors, peak))
            _, bound = best((-b, b) for b in tried.tolist())
        return max(-bound, lowest), min(bound, highest)
    low, high = lowest, highest
    for factors in (_COARSE, *_FINE):
        lows = np.append(low, np.maximum(low * factors, lowest)).tolist()
        low, high = best((tried, high) for tried in lows)
        highs = np.append(high, np.minimum(high * factors, highest)).tolist()
        low, high = best((low, tried) for tried in highs)
    return low, high
