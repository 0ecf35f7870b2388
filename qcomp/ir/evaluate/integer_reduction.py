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

_MANTISSA = 2**31 - 1
_LOG_MANTISSA = 32  # where the table of mantissas starts, after that of the exponents


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
    return np.asarray(np.minimum(127, (256 * e + total // 2) // total - 128), np.int8)


def q_log_softmax(op: QLogSoftmax, x: Array, exp_table: Array, log_table: Array) -> Array:
    total = _exponentials(x, exp_table, op.axis).sum(axis=op.axis, keepdims=True)
    below_max = x.astype(np.int64) - x.max(axis=op.axis, keepdims=True)
    scaled = below_max * op.multiplier - integer_log(total, log_table)
    return saturated(op.zero_point + rounding_shift(scaled, op.shift), -128, 127)


def integer_log(s: I64, log_table: Array) -> I64:
    """log(s / 2^16) in the units of the table, 1 <= s < 2^31; see QLogSoftmax."""
    table = log_table.astype(np.int64)
    n = np.frexp(s.astype(np.float64))[1].astype(np.int64) - 1
    fraction = ((s << (31 - n)) & _MANTISSA) >> 15
    i, r = _LOG_MANTISSA + (fraction >> 8), fraction & 255
    return np.asarray(table[n] + table[i] + ((table[i + 1] - table[i]) * r >> 8))


def _exponentials(x: Array, exp_table: Array, axis: int) -> I64:
    below_max = x.max(axis=axis, keepdims=True).astype(np.int64) - x
    return np.asarray(exp_table.astype(np.int64)[below_max])
