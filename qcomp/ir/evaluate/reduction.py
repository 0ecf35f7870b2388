"""Meanings of reductions, argmax and the softmaxes, of floats and of integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_elementwise import centered, saturated
from qcomp.ir.ops import (
    ArgMax,
    LogSoftmax,
    Op,
    QLogSoftmax,
    QReduceExtreme,
    QReduceSum,
    QSoftmax,
    Reduce,
    Reduction,
    Softmax,
)
from qcomp.ir.tensor import Array
from qcomp.quant import gemmlowp, tflite_softmax
from qcomp.quant.fixed_point import (
    I64,
    Form,
    requantize,
    rounding_divide_by_pot,
    rounding_shift,
    saturating_rounding_doubling_high_mul,
)
from qcomp.quant.qparams import integer_range

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_MANTISSAS = 257  # entries of a table of logarithms behind those of the exponents

_REDUCERS: Mapping[Reduction, Callable[..., F64]] = {
    Reduction.MEAN: np.mean,
    Reduction.SUM: np.sum,
    Reduction.MAX: np.max,
    Reduction.MIN: np.min,
}


def reduce(op: Reduce, x: F32) -> F32:
    result = _REDUCERS[op.kind](x.astype(np.float64), axis=op.axes, keepdims=op.keepdims)
    return np.asarray(result, np.float32)


def softmax(op: Softmax, x: F32) -> F32:
    e = np.exp(x.astype(np.float64) - x.max(axis=op.axis, keepdims=True))
    return np.asarray(e / e.sum(axis=op.axis, keepdims=True), np.float32)


def log_softmax(op: LogSoftmax, x: F32) -> F32:
    t = x.astype(np.float64) - x.max(axis=op.axis, keepdims=True)
    return np.asarray(t - np.log(np.exp(t).sum(axis=op.axis, keepdims=True)), np.float32)


def argmax(op: ArgMax, x: Array) -> NDArray[np.int32]:
    """Of any element type."""
    if op.last:
        back = np.argmax(np.flip(x, op.axis), axis=op.axis, keepdims=op.keepdims)
        return np.asarray(x.shape[op.axis] - 1 - back, np.int32)
    return np.asarray(np.argmax(x, axis=op.axis, keepdims=op.keepdims), np.int32)


def q_reduce_sum(op: QReduceSum, x: Array) -> Array:
    sums = centered(x, op.x_zero_point).sum(axis=op.axes, keepdims=op.keepdims)
    return requantize(np.asarray(sums), np.array(op.multiplier), np.array(op.shift), op.requantize)


def q_reduce_extreme(op: QReduceExtreme, x: Array) -> Array:
    extreme = np.max if op.kind is Reduction.MAX else np.min
    return np.asarray(extreme(x, axis=op.axes, keepdims=op.keepdims))


def q_softmax(op: QSoftmax, x: Array, exp_table: Array) -> Array:
    if op.form is Form.TFLITE:
        of_16 = x.dtype == np.int16
        return _softmax_tflite_16(op, x, exp_table) if of_16 else _softmax_tflite(op, x, exp_table)
    e = _exponentials(x, exp_table, op.axis)
    total = e.sum(axis=op.axis, keepdims=True)
    levels, least = (256 << op.finer, -128) if op.bits == 8 else (32768, 0)
    return saturated((levels * e + total // 2) // total + least, *integer_range(op.bits), op.bits)


def _softmax_tflite(op: QSoftmax, x: Array, exp_table: Array) -> Array:
    e = _exponentials(x, exp_table, op.axis)
    total = rounding_divide_by_pot(e, 12).sum(axis=op.axis, keepdims=True)
    scale, over_unit = gemmlowp.reciprocal(total)
    product = saturating_rounding_doubling_high_mul(scale, e)
    return saturated(rounding_divide_by_pot(product, over_unit + 23) - 128, -128, 127)


def _softmax_tflite_16(op: QSoftmax, x: Array, exp_table: Array) -> Array:
    exponentials, reciprocals = np.split(exp_table.astype(np.int64), [2**16])
    e = exponentials[x.max(axis=op.axis, keepdims=True).astype(np.int64) - x]
    total = e.sum(axis=op.axis, keepdims=True)
    return saturated(tflite_softmax.shares(e, total, reciprocals), *integer_range(16), 16)


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


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Reduce: reduce,
    Softmax: softmax,
    LogSoftmax: log_softmax,
    ArgMax: argmax,
    QReduceSum: q_reduce_sum,
    QReduceExtreme: q_reduce_extreme,
    QSoftmax: q_softmax,
    QLogSoftmax: q_log_softmax,
}
