"""Sums, extremes and softmaxes: each reduction of an axis is a kernel, then one of elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qcomp.ir.evaluate.reduction import _MANTISSAS as MANTISSAS
from qcomp.ir.ops import (
    ArgMax,
    QLogSoftmax,
    QReduceExtreme,
    QReduceSum,
    QSoftmax,
    Reduction,
)
from qcomp.quant.fixed_point import Form
from qcomp.quant.qparams import integer_range
from qcomp.targets.tvm.api.expressions import Expr, const, function_of_c, let, quotient, select
from qcomp.targets.tvm.api.tensors import (
    Tensor,
    axis,
    compute,
    dtype_of,
    index_of,
    largest,
    shape_of,
    smallest,
    total,
)
from qcomp.targets.tvm.arithmetic import (
    I32,
    I64,
    WIDTHS,
    bit_length,
    doubling_high_mul,
    i32,
    i64,
    rounding_divide_by_pot,
    rounding_shift,
)
from qcomp.targets.tvm.builder import Builder, Functions
from qcomp.targets.tvm.requantize import Factor, requantize, saturated

_SUM_BITS = 19  # of the fraction of a sum of exponentials, as in qcomp.quant.gemmlowp


def reduced(
    x: Tensor,
    axes: Sequence[int],
    shape: Sequence[int],
    keepdims: bool,
    combine: Callable[[Expr, Sequence[Any]], Expr],
    element: Callable[[Expr, Sequence[Any]], Expr],
) -> Tensor:
    """combine over the axes of element(x[...], the axes' own indices)."""
    extents = shape_of(x)
    if not axes:
        return compute(shape, lambda *i: element(x[i], ()))
    walks = [axis(extents[a]) for a in axes]
    kept = [a for a in range(len(extents)) if a not in axes]

    def at(*i: Expr) -> Expr:
        own = [i[a] for a in kept] if keepdims else list(i)
        places = dict(zip(kept, own, strict=True)) | dict(zip(axes, walks, strict=True))
        return combine(element(x[tuple(places[a] for a in range(len(extents)))], walks), walks)

    return compute(shape, at)


def q_reduce_sum(b: Builder, op: QReduceSum) -> Tensor:
    x = b.moved(op.x)
    lane = WIDTHS[I32 if dtype_of(x) == "int8" else I64]
    shape, factor = b.type(op.output).shape, Factor(op.multiplier, op.shift)
    count = b.type(op.x).size // max(b.type(op.output).size, 1)
    sums = reduced(x, op.axes, shape, op.keepdims, total, lambda e, _: lane(e))
    offset = lane(count * op.x_zero_point)
    return compute(shape, lambda *i: requantize(sums[i] - offset, factor, op.requantize))


def q_reduce_extreme(b: Builder, op: QReduceExtreme) -> Tensor:
    combine = largest if op.kind is Reduction.MAX else smallest
    x, shape = b.moved(op.x), b.type(op.output).shape
    return reduced(x, op.axes, shape, op.keepdims, combine, lambda e, _: e)


def argmax(b: Builder, op: ArgMax) -> Tensor:
    """The least (or the last) of the indices at which the largest value stands."""
    x, shape = b.stored(op.x), b.type(op.output).shape
    best = b.kernel(reduced(x, (op.axis,), shape, op.keepdims, largest, lambda e, _: e))
    extent, extents = shape_of(x)[op.axis], shape_of(x)
    k = axis(extent)

    def at(*i: Expr) -> Expr:
        front, back = i[: op.axis], i[op.axis + op.keepdims :]
        value, none = x[(*front, k, *back)], -1 if op.last else extent
        index = select(value == best[i], index_of(k), const(none, I32))
        return (largest if op.last else smallest)(index, (k,))

    assert len(extents) == len(shape) + (not op.keepdims)
    return compute(shape, at)


def _row_shape(x: Tensor, along: int) -> list[int]:
    return [1 if a == along else e for a, e in enumerate(shape_of(x))]


def _of_row(rows: Tensor, i: Sequence[Expr], along: int) -> Expr:
    """A row's number, for any element of the row."""
    return rows[tuple(const(0, I32) if a == along else n for a, n in enumerate(i))]


def _exponentials(
    b: Builder, x: Tensor, table: Tensor, along: int
) -> Callable[[Sequence[Expr]], Expr]:
    """exp(x - max) of an element, in fixed point: i32 of i8, else i64."""
    rows = _row_shape(x, along)
    highest = b.kernel(reduced(x, (along,), rows, True, largest, lambda e, _: e))

    def of_i8(d: Expr) -> Expr:
        return table[d]

    def of_i16(d: Expr) -> Expr:
        product = i64(table[d & i32(255)]) * i64(table[(d >> i32(8)) + i32(256)])
        return rounding_shift(product, 30)

    exponential = of_i8 if dtype_of(x) == "int8" else of_i16

    def element(i: Sequence[Expr]) -> Expr:
        return exponential(i32(_of_row(highest, i, along)) - i32(x[tuple(i)]))

    return element


def _row_sums(
    b: Builder, x: Tensor, along: int, element: Callable[[Sequence[Expr]], Expr]
) -> Tensor:
    k = axis(shape_of(x)[along])

    def at(*i: Expr) -> Expr:
        return total(element([k if a == along else n for a, n in enumerate(i)]), (k,))

    return b.kernel(compute(_row_shape(x, along), at))


def q_softmax(b: Builder, op: QSoftmax) -> Tensor:
    x, table = b.stored(op.x), b.stored(op.exp_table)
    e = _exponentials(b, x, table, op.axis)
    if op.form is Form.TFLITE:
        return _softmax_tflite(b, op, x, e)
    sums = _row_sums(b, x, op.axis, e)
    narrow = op.bits == 8 and dtype_of(x) == "int8"
    lane = WIDTHS[I32 if narrow else I64]
    levels, least = (256 << op.finer, -128) if op.bits == 8 else (32768, 0)

    def element(*i: Expr) -> Expr:
        def share(s: Expr) -> Expr:
            return quotient(lane(levels) * lane(e(i)) + (s >> lane(1)), s)

        q = let(lane(_of_row(sums, i, op.axis)), share) + lane(least)
        return saturated(q, *integer_range(op.bits), op.bits)

    return compute(shape_of(x), element)


def _softmax_tflite(
    b: Builder, op: QSoftmax, x: Tensor, e: Callable[[Sequence[Expr]], Expr]
) -> Tensor:
    """1 / S by three steps of Newton's method, once in a row."""
    sums = _row_sums(b, x, op.axis, lambda i: rounding_divide_by_pot(i64(e(i)), i64(12)))
    bits = b.kernel(compute(shape_of(sums), lambda *i: bit_length(sums[i])))

    def reciprocal(*i: Expr) -> Expr:
        half = sums[i] << (i64(31) - bits[i])
        return function_of_c("int64", "qcomp_reciprocal", half)

    scale = b.kernel(compute(shape_of(sums), reciprocal))

    def element(*i: Expr) -> Expr:
        r, over_unit = _of_row(scale, i, op.axis), _of_row(bits, i, op.axis) - i64(1 + _SUM_BITS)
        product = doubling_high_mul(r, i64(e(i)))
        q = rounding_divide_by_pot(product, over_unit + i64(23)) - i64(128)
        return saturated(q, -128, 127)

    return compute(shape_of(x), element)


def q_log_softmax(b: Builder, op: QLogSoftmax) -> Tensor:
    x, table = b.stored(op.x), b.stored(op.exp_table)
    e = _exponentials(b, x, table, op.axis)
    sums = _row_sums(b, x, op.axis, lambda i: i64(e(i)))
    logs = b.kernel(integer_log(b, sums, b.stored(op.log_table)))
    highest = b.kernel(
        reduced(x, (op.axis,), _row_shape(x, op.axis), True, largest, lambda v, _: v)
    )

    def element(*i: Expr) -> Expr:
        below = i64(i32(x[i]) - i32(_of_row(highest, i, op.axis)))
        scaled = below * i64(op.multiplier) - _of_row(logs, i, op.axis)
        q = rounding_shift(scaled, op.shift) + i64(op.zero_point)
        return saturated(q, *integer_range(op.bits), op.bits)

    return compute(shape_of(x), element)


def integer_log(b: Builder, s: Tensor, table: Tensor) -> Tensor:
    """qcomp.ir.evaluate.reduction.integer_log of i64 in memory; their lengths are in memory too."""
    exponents = shape_of(table)[0] - MANTISSAS
    bits = 31 if exponents == 32 else 46
    lengths = b.kernel(compute(shape_of(s), lambda *i: bit_length(s[i])))

    def fraction(s: Expr, n: Expr) -> Expr:
        mantissa = (s << (i64(bits) - n)) & i64((1 << bits) - 1)
        return mantissa >> i64(bits - 16)

    fractions = b.kernel(compute(shape_of(s), lambda *i: fraction(s[i], lengths[i] - i64(1))))

    def element(*i: Expr) -> Expr:
        at, r = i32(fractions[i] >> i64(8)) + i32(exponents), fractions[i] & i64(255)
        low, high = i64(table[at]), i64(table[at + i32(1)])
        return i64(table[i32(lengths[i]) - i32(1)]) + low + (((high - low) * r) >> i64(8))

    return compute(shape_of(s), element)


FUNCTIONS: Functions = {
    ArgMax: argmax,
    QReduceSum: q_reduce_sum,
    QReduceExtreme: q_reduce_extreme,
    QSoftmax: q_softmax,
    QLogSoftmax: q_log_softmax,
}
