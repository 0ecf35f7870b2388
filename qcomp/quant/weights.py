"""The grid of a layer's weights, and the certificate that its accumulators can't overflow.

Weights are symmetric; the bias has the scale `scale_x * scale_w`. Accumulators and biases have 32
bits, and with an x of 16 bits up to 41 (TensorFlow Lite's 16x8 has biases of 64): of |acc| < 2^40
the wide requantize has a multiplier of 22 bits and more. With an x of 32 bits they have up to 48,
and a multiplier 14 bits and more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import nearest_narrow
from qcomp.quant.grid import Grid, largest
from qcomp.quant.groups import grouped_grid, largest_multiplier
from qcomp.quant.lattice import lattice_steps
from qcomp.quant.scales import minmax_scales, mse_scales, pow2_above

F64 = NDArray[np.float64]

BIAS_BITS: Mapping[int, int] = {8: 32, 16: 41, 32: 48}
"""By the bits of x."""

REACH: Mapping[int, int] = {8: 255, 16: 32768, 32: 2**31}
"""The largest |x - zero_point|, by the bits of x."""

# Half of what the accumulator holds: there is room for the rounding of a requantize (at most 2^29)
# and for the weights' own.
_ACC_BUDGET: Mapping[int, float] = {8: 2.0**30, 16: 2.0**39, 32: 2.0**46}


_ROUNDING = 1 / math.sqrt(12.0)  # deviation of a rounded weight, in steps
_COMMON_X = REACH[16] / 8  # magnitude of an x of 16 bits, which has room for the unseen


def weight_grid(
    weight: NDArray[np.floating],
    bits: int,
    *,
    per_channel: bool,
    least_squares: bool,
    group_size: int = 0,
    power_of_two: bool = False,
) -> Grid:
    """One scale along axis 0, or one for all: f64 [C] or [1]. A dead channel has scale 0.

    Scales come from the peaks, or are those of least squared error (qcomp.quant.scales), or the
    steps that the weights are multiples of already (qcomp.quant.lattice). Groups
    have multipliers (qcomp.quant.groups) where bits leave room for them and a scale has several.
    """
    taps = weight.size // len(weight)
    # The accumulator of the largest integers is certified at any scale.
    most = min(
        largest_multiplier(bits), int(_ACC_BUDGET[8] / 2 / (REACH[8] * largest(bits) * taps))
    )
    if group_size and most > 1 and (taps > group_size or not per_channel):
        return grouped_grid(
            weight,
            bits,
            group_size,
            most,
            per_channel=per_channel,
            least_squares=least_squares,
            power_of_two=power_of_two,
        )
    rows = weight.astype(np.float64).reshape(len(weight) if per_channel else 1, -1)
    if least_squares:
        return Grid(mse_scales(rows, bits, power_of_two=power_of_two), bits)
    steps = lattice_steps(rows, largest(bits))
    scales = np.where(np.isnan(steps), minmax_scales(rows, bits), steps)
    return Grid(pow2_above(scales) if power_of_two else scales, bits)


def unit_gain(grid: Grid, weight: NDArray[np.floating]) -> tuple[Grid, NDArray[np.float32]]:
    """Scales at which the same integers have <w, rounded w> = <w, w>, and the weights they make.

    Weights rounded with the least squared error are too small: w = rounded + error with the error
    orthogonal to what is rounded, so <w, rounded> = |w|^2 - |error|^2. Each layer would give
    results that are smaller by the same ratio, and a deep network multiplies these. Banner et al.,
    "Post training 4-bit quantization of convolutional networks for rapid-deployment", NeurIPS 2019,
    section 4.2, correct the same bias by the ratio of standard deviations.

    Rounding the returned weights to the returned grid finds the same integers. Dead channels keep
    the scale 0.
    """
    dead = grid.scale == 0.0
    integers = replace(grid, scale=np.where(dead, 1.0, grid.scale)).integers(weight)
    rows, q = (a.astype(np.float64).reshape(len(grid.scale), -1) for a in (weight, integers))
    along, energy = np.einsum("rk,rk->r", rows, q), np.einsum("rk,rk->r", rows, rows)
    scale = np.divide(energy, along, out=grid.scale.copy(), where=along > 0)
    shape = (-1,) + (1,) * (weight.ndim - 1)
    return replace(grid, scale=scale), (integers * scale.reshape(shape)).astype(np.float32)


def certified(
    grid: Grid,
    weight: NDArray[np.floating],
    bias: NDArray[np.floating],
    x_scale: float,
    y_scale: float,
    *,
    x_bits: int = 8,
    power_of_two: bool = False,
) -> Grid:
    """The grid with scales raised where a channel's accumulator or bias would not fit its integer.

    In real units the accumulator is bounded by |b| + sum|w| * 255 * x_scale; the scale must be at
    least that over x_scale * 2^30 (with 16 bits, 32768 and 2^39). Dead channels (scale 0) get 2^-8
    of a result step. This is the cure for near-dead channels whose bias overflows (onnxruntime
    issue 11415).

    With an x of 16 bits, 2^30 it is too where rounding to such scales moves results by less than a
    step: then sums are i32, which kernels are faster on, and one channel decides for its layer.
    """
    reach, budget = REACH[x_bits], _ACC_BUDGET[x_bits]
    sums = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).sum(axis=1)
    bound = np.abs(bias.astype(np.float64)) / x_scale + reach * sums
    # Rounding moves a weight by at most half a step; of 1 bit, from 0 to -1 or 1, by a whole one.
    steps = 1 if grid.multiplier is None else int(grid.multiplier.max(initial=1))
    moved = reach * (weight.size // len(weight)) * steps * (1.0 if grid.bits == 1 else 0.5)
    lowest = bound / (budget - min(moved, budget / 2))
    if x_bits == 16:
        short = bound / (_ACC_BUDGET[8] - min(moved, _ACC_BUDGET[8] / 2))
        error = _ROUNDING * math.sqrt(weight.size // len(weight)) * short * x_scale * _COMMON_X
        lowest = np.where(error <= y_scale, np.maximum(lowest, short), lowest)
    # The narrow form shifts by at most 30 bits and multiplies by at least 257 * 2^-15.
    lowest = np.maximum(lowest, math.ldexp(1.0, -36) * y_scale / x_scale)
    dead = np.maximum(lowest, math.ldexp(y_scale / x_scale, -8))
    if grid.scale.size == 1:
        lowest, dead = lowest.max(keepdims=True), dead.max(keepdims=True)
    lowest = np.where(grid.scale == 0.0, dead, lowest)
    raised = np.maximum(grid.scale, pow2_above(lowest) if power_of_two else lowest)
    return replace(grid, scale=raised)


def snapped_scales(scales: F64, x_scale: float, y_scale: float) -> F64:
    """The nearest scales whose multiplier x_scale * scale / y_scale is exactly m * 2^-(k + 15).

    m has 10 bits (more where k would be negative, so that k = 0): DESIGN section 3.1. Moves a scale
    by at most 2^-10 of itself. Multipliers of 1 and above can't be narrow and stay as they are.
    """
    snapped = nearest_narrow(x_scale * scales / y_scale)
    return np.where(np.isnan(snapped), scales, snapped * y_scale / x_scale)
