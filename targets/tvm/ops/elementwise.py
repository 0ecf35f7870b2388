"""Integer ops on single values and on pairs, as expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.ir.ops import (
    Interpolate,
    PairTable,
    QAdd,
    QAddRescaled,
    QAddWide,
    QBinary,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QPReluRescaled,
    QRescale,
    Table,
)
from qcomp.ir.tensor import DType, TensorId
from qcomp.quant.interpolation import FRACTION_BITS
from qcomp.targets.tvm.api.expressions import Expr, maximum, minimum, select
from qcomp.targets.tvm.api.tensors import Tensor, compute
from qcomp.targets.tvm.arithmetic import (
    I32,
    I64,
    WIDTHS,
    clamp,
    i32,
    i64,
    mulhrs,
    rounded_quotient,
    rounding_shift,
    same,
)
from qcomp.targets.tvm.builder import Builder, Functions
from qcomp.targets.tvm.ops.indexing import broadcast
from qcomp.targets.tvm.requantize import RESCALED, Factor, requantize, saturated


def lanes(b: Builder, *tensors: TensorId) -> str:
    """32 bits hold what is computed of i8 alone."""
    wide = any(b.type(t).dtype is DType.I16 for t in tensors)
    return I64 if wide else I32


def binary(b: Builder, op: QBinary, element: Callable[[Expr, Expr], Expr]) -> Tensor:
    """The tensor of element(a, b), operands broadcast."""
    return elementwise(b, (op.a, op.b), b.type(op.output).shape, element)


def elementwise(
    b: Builder, operands: Sequence[TensorId], shape: Sequence[int], element: Callable[..., Expr]
) -> Tensor:
    tensors = [b.pointwise(t, shape) for t in operands]
    return compute(shape, lambda *i: element(*(broadcast(t, i) for t in tensors)))


def q_add(b: Builder, op: QAdd) -> Tensor:
    def term(x: Expr, zero_point: int, multiplier: int) -> Expr:
        return mulhrs((i32(x) - i32(zero_point)) << i32(7), i32(multiplier))

    def element(x: Expr, y: Expr) -> Expr:
        a_term = term(x, op.a_zero_point, op.a_multiplier)
        b_term = term(y, op.b_zero_point, op.b_multiplier)
        scaled = rounding_shift(a_term + b_term, op.fraction_bits)
        return saturated(scaled + i32(op.zero_point), op.qmin, op.qmax)

    return binary(b, op, element)


def q_add_wide(b: Builder, op: QAddWide) -> Tensor:
    lane = WIDTHS[lanes(b, op.a, op.b, op.output)]

    def element(x: Expr, y: Expr) -> Expr:
        terms = (lane(x) - lane(op.a_zero_point)) * lane(op.a_multiplier)
        terms += (lane(y) - lane(op.b_zero_point)) * lane(op.b_multiplier)
        scaled = rounding_shift(terms, op.shift)
        return saturated(scaled + lane(op.zero_point), op.qmin, op.qmax, op.bits)

    return binary(b, op, element)


def q_add_rescaled(b: Builder, op: QAddRescaled) -> Tensor:
    rescaled = RESCALED[op.form]

    def term(x: Expr, zero_point: int, multiplier: int, shift: int) -> Expr:
        return rescaled((i64(x) - i64(zero_point)) << i64(op.left_shift), Factor(multiplier, shift))

    def element(x: Expr, y: Expr) -> Expr:
        total = term(x, op.a_zero_point, op.a_multiplier, op.a_shift) + i64(op.b_sign) * term(
            y, op.b_zero_point, op.b_multiplier, op.b_shift
        )
        return requantize(total, Factor(op.multiplier, op.shift), op.requantize)

    return binary(b, op, element)


def q_mul(b: Builder, op: QMul) -> Tensor:
    lane = WIDTHS[lanes(b, op.a, op.b)]

    def element(x: Expr, y: Expr) -> Expr:
        product = (lane(x) - lane(op.a_zero_point)) * (lane(y) - lane(op.b_zero_point))
        return requantize(product, Factor(op.multiplier, op.shift), op.requantize)

    return binary(b, op, element)


def q_div(b: Builder, op: QDiv) -> Tensor:
    def element(x: Expr, y: Expr) -> Expr:
        n = (i64(x) - i64(op.a_zero_point)) * i64(op.multiplier)
        d = (i64(y) - i64(op.b_zero_point)) << i64(op.shift)
        found = rounded_quotient(n, d)
        far = i64(1 << (op.bits + 2))
        by_zero = select(n > i64(0), far, select(n < i64(0), i64(0) - far, i64(0)))
        q = select(d == i64(0), by_zero, found) + i64(op.zero_point)
        return saturated(q, op.qmin, op.qmax, op.bits)

    return binary(b, op, element)


def q_minimum(b: Builder, op: QMinimum) -> Tensor:
    return _extreme(b, op, minimum)


def q_maximum(b: Builder, op: QMaximum) -> Tensor:
    return _extreme(b, op, maximum)


def _extreme(b: Builder, op: QMinimum | QMaximum, extreme: Callable[[Expr, Expr], Expr]) -> Tensor:
    dtype = str(b.type(op.output).dtype.numpy)
    return binary(b, op, lambda x, y: clamp(i32(extreme(x, y)), op.qmin, op.qmax).astype(dtype))


def table(b: Builder, op: Table) -> Tensor:
    entries = b.stored(op.table)
    return elementwise(b, (op.x,), b.type(op.x).shape, lambda x: entries[i32(x) + i32(128)])


def pair_table(b: Builder, op: PairTable) -> Tensor:
    entries = b.stored(op.table)

    def element(x: Expr, y: Expr) -> Expr:
        return entries[i32(x) * i32(256) + i32(y) + i32(257 * 128)]

    return elementwise(b, (op.a, op.b), b.type(op.output).shape, element)


def q_rescale(b: Builder, op: QRescale) -> Tensor:
    factor = Factor(op.multiplier, op.shift)

    def element(x: Expr) -> Expr:
        return requantize(i32(x) - i32(op.x_zero_point), factor, op.requantize)

    return elementwise(b, (op.x,), b.type(op.x).shape, element)


def interpolate(b: Builder, op: Interpolate) -> Tensor:
    entries, k = b.stored(op.table), op.step_bits

    def element(x: Expr) -> Expr:
        i = (i32(x) >> i32(k)) + i32(1 << (15 - k))
        r = i32(x) & i32((1 << k) - 1)
        t = entries[i] * i32(1 << k) + (entries[i + i32(1)] - entries[i]) * r
        scaled = rounding_shift(t, k + FRACTION_BITS)
        return saturated(scaled + i32(op.zero_point), op.qmin, op.qmax, op.bits)

    return elementwise(b, (op.x,), b.type(op.x).shape, element)


def q_prelu(b: Builder, op: QPRelu) -> Tensor:
    lane = WIDTHS[lanes(b, op.x, op.output)]

    def element(x: Expr, negative: Expr) -> Expr:
        t = lane(x) - lane(op.x_zero_point)
        m = select(t >= same(0, t), lane(op.positive_multiplier), lane(negative))
        scaled = rounding_shift(t * m, op.shift)
        return saturated(scaled + lane(op.zero_point), op.qmin, op.qmax, op.bits)

    return elementwise(b, (op.x, op.negative_multiplier), b.type(op.x).shape, element)


def q_prelu_rescaled(b: Builder, op: QPReluRescaled) -> Tensor:
    def element(x: Expr, slope: Expr) -> Expr:
        t = i32(x) - i32(op.x_zero_point)
        product = t * (i32(slope) - i32(op.slope_zero_point))
        above = requantize(t, Factor(op.positive_multiplier, op.positive_shift), op.requantize)
        below = requantize(product, Factor(op.multiplier, op.shift), op.requantize)
        return select(t < i32(0), below, above)

    return elementwise(b, (op.x, op.slope), b.type(op.x).shape, element)


FUNCTIONS: Functions = {
    QAdd: q_add,
    QAddWide: q_add_wide,
    QAddRescaled: q_add_rescaled,
    QMul: q_mul,
    QDiv: q_div,
    QMinimum: q_minimum,
    QMaximum: q_maximum,
    Table: table,
    PairTable: pair_table,
    QRescale: q_rescale,
    Interpolate: interpolate,
    QPRelu: q_prelu,
    QPReluRescaled: q_prelu_rescaled,
}
