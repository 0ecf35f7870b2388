"""Exact integer meaning of the ops that combine many values of one tensor."""

from __future__ import annotations

import numpy as np

from qcomp.ir.evaluate.integer_elementwise import centered, saturated
from qcomp.ir.evaluate.windows import padded, taps
from qcomp.ir.ops.integer_reduction import (
    QAveragePool2d,
    QLogSoftmax,
    QReduceExtreme,
    QReduceSum,
    QSoftmax,
)
from qcomp.ir.ops.reduction import Reduction
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import I64, requantize, rounding_shift
from qcomp.quant.qparams import integer_range

_MANTISSAS = 257  # entries of a table of logarithms behind those of the exponents


def q_average_pool2d(op: QAveragePool2d, x: Array, multiplier: Array) -> Array:
    values = padded(centered(x, op.x_zero_point), op.padding, 0)
    counted = np.ones((1, *x.shape[1:3], 1), np.int64)
    inside = padded(counted, op.padding, int(op.count_include_pad))
    sums, count = _window_sums(op, values), _window_sums(op, inside)
    return requantize(sums, multiplier[count], np.array(op.shift), op.requantize)


def _window_sums(op: QAveragePool2d, x: I64) -> I64:
    views = taps(x, op.kernel, op.stride, op.dilation)
    return sum((view for _, _, view in views), np.zeros((), np.int64))


def q_reduce_sum(op: QReduceSum, x: Array) -> Array:
    sums = centered(x, op.x_zero_point).sum(axis=op.axes, keepdims=op.keepdims)
    return requantize(np.asarray(sums), np.array(op.multiplier), np.array(op.shift), op.requantize)


def q_reduce_extreme(op: QReduceExtreme, x: Array) -> Array:
    extreme = np.max if op.kind is Reduction.MAX else np.min
    return np.asarray(extreme(x, axis=op.axes, keepdims=op.keepdims))


def q_softmax(op: QSoftmax, x: Array, exp_table: Array) -> Array:
    e = _exponentials(x, exp_table, op.axis)
    total = e.sum(axis=op.axis, keepdims=True)
    levels, least = (256, -128) if op.bits == 8 else (32768, 0)
    return saturated((levels * e + total // 2) // total + least, *integer_range(op.bits), op.bits)


def q_log_softmax(op: QLogSoftmax, x: Array, exp_table: Array, log_table: Array) -> Array:
    total = _exponentials(x, exp_table, op.axis).sum(axis=op.axis, keepdims=True)
    below_max = x.astype(np.int64) - x.max(axis=op.axis, keepdims=True)
    scaled = below_max * op.multiplier - integer_log(total, log_table)
    q = op.zero_point + rounding_shift(scaled, op.shift)
    return saturated(q, *integer_range(op.bits), op.bits)


def integer_log(s: I64, log_table: Array) -> I64:
    """log(s) in the units and over the Q of the table, 1 <= s < 2^31 or 2^46; see QLogSoftmax.

    The mantissa is brought to 31 bits, or to 46 with a table of 48 exponents, and cut to 16.
    """
    table = log_table.astype(np.int64)
    exponents = len(table) - _MANTISSAS
    bits = 31 if exponents == 32 else 46
    n = np.frexp(s.astype(np.float64))[1].astype(np.int64) - 1
    fraction = ((s << (bits - n)) & ((1 << bits) - 1)) >> (bits - 16)
    i, r = exponents + (fraction >> 8), fraction & 255
    return np.asarray(table[n] + table[i] + ((table[i + 1] - table[i]) * r >> 8))


def _exponentials(x: Array, exp_table: Array, axis: int) -> I64:
    d = x.max(axis=axis, keepdims=True).astype(np.int64) - x
    table = exp_table.astype(np.int64)
    if x.dtype == np.int8:
        return np.asarray(table[d])
    return rounding_shift(table[d & 255] * table[256 + (d >> 8)], 30)
