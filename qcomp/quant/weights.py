"""Scales of weights and biases, and the certificate that int32 accumulators can't overflow.

Weights are symmetric in [-127, 127]; the bias has the scale `scale_x * scale_w` and is an int32.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import multiplier_narrow

F64 = NDArray[np.float64]

WEIGHT_MAX = 127
BIAS_MAX = 2**31 - 1
_ACC_LIMIT = 2.0**31
# Room for the rounding of a requantize (at most 2^29) and for the weights' own rounding.
_ACC_BUDGET = _ACC_LIMIT - 2.0**30


def weight_scales(weight: NDArray[np.floating], *, per_channel: bool) -> F64:
    """max|w| / 127 along axis 0, or over all; f64 [C] or [1]. A dead channel has scale 0."""
    flat = np.abs(weight.astype(np.float64)).reshape(len(weight), -1)
    peaks: F64 = flat.max(axis=1, initial=0.0)
    if not per_channel:
        peaks = peaks.max(initial=0.0, keepdims=True)
    scales: F64 = peaks / WEIGHT_MAX
    return scales


def certified_scales(
    scales: F64,
    weight: NDArray[np.floating],
    bias: NDArray[np.floating],
    x_scale: float,
    y_scale: float,
) -> F64:
    """Scales raised where the accumulator or the bias of a channel would not fit an int32.

    In real units the accumulator is bounded by |b| + sum|w| * 255 * x_scale; the scale must be at
    least that over x_scale * 2^30. Dead channels (scale 0) get 2^-8 of a result step. This is the
    cure for near-dead channels whose bias overflows (onnxruntime issue 11415).
    """
    sums = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).sum(axis=1)
    taps = weight.size // len(weight)
    bound = np.abs(bias.astype(np.float64)) / x_scale + 255.0 * sums
    # Rounding each weight moves the sum by at most taps / 2 steps.
    lowest = bound / (_ACC_BUDGET - min(255.0 * taps / 2, _ACC_BUDGET / 2))
    # The narrow form shifts by at most 30 bits and multiplies by at least 257 * 2^-15.
    lowest = np.maximum(lowest, math.ldexp(1.0, -36) * y_scale / x_scale)
    if scales.size == 1:
        lowest = lowest.max(keepdims=True)
    dead = scales == 0.0
    raised = np.maximum(scales, lowest)
    result: F64 = np.where(dead, np.maximum(lowest, math.ldexp(y_scale / x_scale, -8)), raised)
    return result


def snapped_scales(scales: F64, x_scale: float, y_scale: float) -> F64:
    """The nearest scales whose multiplier x_scale * scale / y_scale is exactly m * 2^-(k + 15).

    m has 10 bits (more where k would be negative, so that k = 0): DESIGN section 3.1. Moves a scale
    by at most 2^-10 of itself. Multipliers of 1 and above can't be narrow and stay as they are.
    """
    result = scales.copy()
    for c, scale in enumerate(scales):
        factor = multiplier_narrow(x_scale * float(scale) / y_scale)
        if factor is not None:
            m, k = factor
            result[c] = math.ldexp(m, -(k + 15)) * y_scale / x_scale
    return result
