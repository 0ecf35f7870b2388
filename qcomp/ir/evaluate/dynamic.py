"""Exact integer meaning of the ops whose scale is an operand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.evaluate.integer_linear import dense_sums
from qcomp.ir.ops.base import Op
from qcomp.ir.ops.dynamic import QDenseBy, QuantizeBy, ScaleOf
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import requantize

LARGEST = 127


def scale_of(op: ScaleOf, x: Array) -> Array:
    largest = max(int(np.abs(x.astype(np.int64) - op.x_zero_point).max(initial=0)), 1)
    return np.array(scale_parts(largest), np.int32)


def scale_parts(largest: int) -> tuple[int, int]:
    """(mantissa, shift) of largest / 127."""
    shift = 0
    while (largest << shift + 1) // LARGEST < 2**31:
        shift += 1
    return (largest << shift) // LARGEST, shift


def quantize_by(op: QuantizeBy, x: Array, scale: Array) -> Array:
    mantissa, shift = scale.astype(np.int64)
    centered = x.astype(np.int64) - op.x_zero_point
    magnitude = (2 * (np.abs(centered) << shift) + mantissa) // (2 * mantissa)
    return np.asarray(np.sign(centered) * np.minimum(magnitude, LARGEST)).astype(np.int8)


def q_dense_by(
    op: QDenseBy, x: Array, weight: Array, scale: Array, multiplier: Array, shift: Array
) -> Array:
    mantissa, scale_shift = scale.astype(np.int64)
    factors = multiplier.astype(np.int64) * mantissa >> 31
    shifts = shift.astype(np.int64) + scale_shift - 31
    return requantize(dense_sums(x, 0, weight), factors, shifts, op.requantize)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    ScaleOf: scale_of,
    QuantizeBy: quantize_by,
    QDenseBy: q_dense_by,
}
