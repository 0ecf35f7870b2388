"""Ops whose scale is a tensor."""

from __future__ import annotations

import numpy as np

from qcomp.ir.evaluate.dynamic import LARGEST
from qcomp.ir.ops import QDenseBy, QuantizeBy, ScaleOf
from qcomp.targets.tvm.api.expressions import Expr, const, maximum, quotient, select
from qcomp.targets.tvm.api.tensors import Tensor, axis, compute, index_of, largest, shape_of, total
from qcomp.targets.tvm.arithmetic import I32, absolute, clamp, i32, i64, rounded_quotient
from qcomp.targets.tvm.builder import Builder, Functions
from qcomp.targets.tvm.ops.linear import Layer, dense_sums
from qcomp.targets.tvm.ops.reduction import reduced
from qcomp.targets.tvm.requantize import Factor, requantize

_SHIFTS = 38  # more than the largest shift, of 1 / 127


def scale_of(b: Builder, op: ScaleOf) -> Tensor:
    """The shift counts the doublings under which the quotient stays below 2^31."""
    x = b.stored(op.x)
    axes = tuple(range(len(shape_of(x))))

    def distance(e: Expr, _: object) -> Expr:
        return absolute(i32(e) - i32(op.x_zero_point))

    most = b.kernel(reduced(x, axes, (1,) * len(axes), True, largest, distance))
    k, zero = axis(_SHIFTS), tuple(const(0, I32) for _ in axes)

    def size() -> Expr:
        return i64(maximum(most[zero], i32(1)))

    def still_below(i: Expr) -> Expr:
        return select((size() << i64(index_of(k) + 1)) < i64(LARGEST << 31), i32(1), i32(0))

    shift = b.kernel(compute((1,), lambda i: total(still_below(i), (k,))))

    def element(i: Expr) -> Expr:
        mantissa = quotient(size() << i64(shift[const(0, I32)]), i64(LARGEST))
        return select(i == 0, i32(mantissa), shift[const(0, I32)])

    return compute((2,), element)


def quantize_by(b: Builder, op: QuantizeBy) -> Tensor:
    x, scale = b.stored(op.x), b.stored(op.scale)

    def element(*i: Expr) -> Expr:
        mantissa, shift = i64(scale[const(0, I32)]), i64(scale[const(1, I32)])
        centered = i64(x[i]) - i64(op.x_zero_point)
        q = rounded_quotient(centered << shift, mantissa)
        return clamp(q, -LARGEST, LARGEST).astype("int8")

    return compute(shape_of(x), element)


def q_dense_by(b: Builder, op: QDenseBy) -> Tensor:
    weight = b.array(op.weight)
    own = Layer(weight, np.zeros(len(weight), np.int32), I32)
    sums = dense_sums(b, op.x, own, 0, b.type(op.output).shape)
    scale = b.stored(op.scale)
    factors = b.factors(op.multiplier, op.shift)

    def element(*i: Expr) -> Expr:
        base = factors(i[-1])
        mantissa, shift = i64(scale[const(0, I32)]), i64(scale[const(1, I32)])
        by = (i64(base.multiplier) * mantissa) >> i64(31)
        return requantize(sums[i], Factor(by, i64(base.shift) + shift - i64(31)), op.requantize)

    return compute(shape_of(sums), element)


FUNCTIONS: Functions = {ScaleOf: scale_of, QuantizeBy: quantize_by, QDenseBy: q_dense_by}
