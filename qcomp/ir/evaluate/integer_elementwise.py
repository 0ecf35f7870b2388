"""Exact integer meaning of the ops on single values and on pairs; all arithmetic in int64."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.ops.base import Op
from qcomp.ir.ops.integer_elementwise import (
    Interpolate,
    QAdd,
    QAddRescaled,
    QAddWide,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QPReluRescaled,
    QRescale,
    Table,
)
from qcomp.ir.ops.pair_table import PairTable
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import I64, mulhrs, requantize, rescaled, rounding_shift
from qcomp.quant.interpolation import FRACTION_BITS
from qcomp.quant.qparams import INTEGERS


def saturated(x: Array, qmin: int, qmax: int, bits: int = 8) -> Array:
    return np.clip(x, qmin, qmax).astype(INTEGERS[bits])


def centered(x: Array, zero_point: int) -> I64:
    """x - zero_point without overflow."""
    return x.astype(np.int64) - zero_point


def q_add(op: QAdd, a: Array, b: Array) -> Array:
    a_term = mulhrs(centered(a, op.a_zero_point) << 7, op.a_multiplier)
    b_term = mulhrs(centered(b, op.b_zero_point) << 7, op.b_multiplier)
    scaled = rounding_shift(a_term + b_term, op.fraction_bits)
    return saturated(op.zero_point + scaled, op.qmin, op.qmax)


def q_add_wide(op: QAddWide, a: Array, b: Array) -> Array:
    a_term = centered(a, op.a_zero_point) * op.a_multiplier
    b_term = centered(b, op.b_zero_point) * op.b_multiplier
    scaled = rounding_shift(a_term + b_term, op.shift)
    return saturated(op.zero_point + scaled, op.qmin, op.qmax, op.bits)


def q_add_rescaled(op: QAddRescaled, a: Array, b: Array) -> Array:
    terms = [
        rescaled(
            centered(x, zero_point) << op.left_shift,
            np.array(multiplier),
            np.array(shift),
            op.form,
        )
        for x, zero_point, multiplier, shift in (
            (a, op.a_zero_point, op.a_multiplier, op.a_shift),
            (b, op.b_zero_point, op.b_multiplier, op.b_shift),
        )
    ]
    total = terms[0] + op.b_sign * terms[1]
    return requantize(total, np.array(op.multiplier), np.array(op.shift), op.requantize)


def q_mul(op: QMul, a: Array, b: Array) -> Array:
    product = centered(a, op.a_zero_point) * centered(b, op.b_zero_point)
    return requantize(product, np.array(op.multiplier), np.array(op.shift), op.requantize)


def q_div(op: QDiv, a: Array, b: Array) -> Array:
    n = centered(a, op.a_zero_point) * op.multiplier
    d = centered(b, op.b_zero_point) << op.shift
    size = np.abs(d)
    quotient = np.sign(n) * np.sign(d) * ((2 * np.abs(n) + size) // np.maximum(2 * size, 1))
    by_zero = np.sign(n) << (op.bits + 2)
    q = op.zero_point + np.where(d == 0, by_zero, quotient)
    return saturated(q, op.qmin, op.qmax, op.bits)


def q_minimum(op: QMinimum, a: Array, b: Array) -> Array:
    return np.clip(np.minimum(a, b), op.qmin, op.qmax)


def q_maximum(op: QMaximum, a: Array, b: Array) -> Array:
    return np.clip(np.maximum(a, b), op.qmin, op.qmax)


def table(op: Table, x: Array, table: Array) -> Array:
    return np.asarray(table[x.astype(np.intp) + 128])


def q_rescale(op: QRescale, x: Array) -> Array:
    multiplier, shift = np.array(op.multiplier), np.array(op.shift)
    return requantize(centered(x, op.x_zero_point), multiplier, shift, op.requantize)


def interpolate(op: Interpolate, x: Array, table: Array) -> Array:
    k, entries = op.step_bits, table.astype(np.int64)
    i = (x.astype(np.intp) >> k) + (1 << (15 - k))
    r = x.astype(np.int64) & ((1 << k) - 1)
    t = (entries[i] << k) + (entries[i + 1] - entries[i]) * r
    scaled = rounding_shift(t, k + FRACTION_BITS)
    return saturated(op.zero_point + scaled, op.qmin, op.qmax, op.bits)


def q_prelu(op: QPRelu, x: Array, negative_multiplier: Array) -> Array:
    t = centered(x, op.x_zero_point)
    multiplier = np.where(t >= 0, op.positive_multiplier, negative_multiplier.astype(np.int64))
    scaled = rounding_shift(t * multiplier, op.shift)
    return saturated(op.zero_point + scaled, op.qmin, op.qmax, op.bits)


def q_prelu_rescaled(op: QPReluRescaled, x: Array, slope: Array) -> Array:
    t = centered(x, op.x_zero_point)
    products = t * centered(slope, op.slope_zero_point)
    positive = requantize(
        t, np.array(op.positive_multiplier), np.array(op.positive_shift), op.requantize
    )
    negative = requantize(products, np.array(op.multiplier), np.array(op.shift), op.requantize)
    return np.where(t >= 0, positive, negative)


def pair_table(op: PairTable, a: Array, b: Array, table: Array) -> Array:
    return np.asarray(table[256 * (a.astype(np.intp) + 128) + (b.astype(np.intp) + 128)])


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    QAdd: q_add,
    QAddWide: q_add_wide,
    QAddRescaled: q_add_rescaled,
    QMul: q_mul,
    QDiv: q_div,
    QMinimum: q_minimum,
    QMaximum: q_maximum,
    Table: table,
    QRescale: q_rescale,
    Interpolate: interpolate,
    PairTable: pair_table,
    QPRelu: q_prelu,
    QPReluRescaled: q_prelu_rescaled,
}
