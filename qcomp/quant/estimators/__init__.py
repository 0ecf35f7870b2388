"""Range estimators: pure functions of a distribution and the integers it will be rounded to.

Each gives (low, high), low <= high, within the extremes of the values and 0; it need not contain 0.
Wu et al., "Integer quantization for deep learning inference: principles and empirical evaluation"
(2020) compare most of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.estimators.aciq import analytic_clipping
from qcomp.quant.estimators.cross_entropy import least_cross_entropy
from qcomp.quant.estimators.kl import information
from qcomp.quant.estimators.minmax import minmax, moving_average
from qcomp.quant.estimators.mse import least_squares
from qcomp.quant.estimators.percentile import percentile
from qcomp.quant.integer_grid import IntegerGrid

Estimator = Callable[[Distribution, IntegerGrid], Range]

ESTIMATORS: Mapping[str, Estimator] = {
    "mse": least_squares,
    "minmax": minmax,
    "ema": moving_average,
    "percentile": percentile,
    "kl": information,
    "aciq": analytic_clipping,
    "cross-entropy": least_cross_entropy,
}
