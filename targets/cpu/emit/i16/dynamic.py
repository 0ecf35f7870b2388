"""Scales that are found at run time: maxima, their reciprocals, and products with them.

Meaning: qcomp.ir.evaluate.dynamic (QAbsMax, QScaleDown, QScaleUp).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from qcomp.ir.ops import QScaleUp
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    clamp,
    larger,
    larger_unsigned,
    smaller_unsigned,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.folds import Fold, Position

_LARGEST = 2**15 - 1
_I1 = ir.IntType(1)


def largest_magnitude() -> Fold:
    """max|x| of i16, as u16 until it is at most 32767 in the end."""

    def magnitude(b: ir.IRBuilder, x: Value) -> Value:
        zero = splat(I16, x.type.count, 0)
        return b.select(b.icmp_signed("<", x, zero), b.sub(zero, x), x)

    def step(b: ir.IRBuilder, acc: Value, xs: Sequence[Value], where: Position) -> Value:
        return reduce(lambda m, x: larger_unsigned(b, m, magnitude(b, x)), xs, acc)

    def finish(b: ir.IRBuilder, acc: Value) -> Value:
        return smaller_unsigned(b, acc, splat(I16, acc.type.count, _LARGEST))

    return Fold(I16, 0, I16, step, larger_unsigned, finish, I16)


def powers(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
    """2^j of each scale."""
    return b.shl(splat(I16, lanes, 1), b.trunc(_places(b, *values), vector(I16, lanes)))


def reciprocals(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
    """r of each scale; r < 2^15."""
    m = b.shl(_at_least_one(b, *values), _places(b, *values))
    numerator = b.add(splat(I32, lanes, 127 * 2**22), b.lshr(m, splat(I32, lanes, 1)))
    return b.trunc(b.udiv(numerator, m), vector(I16, lanes))


def _at_least_one(b: ir.IRBuilder, scale: Value) -> Value:
    lanes = scale.type.count
    return larger(b, b.zext(scale, vector(I32, lanes)), splat(I32, lanes, 1))


def _places(b: ir.IRBuilder, scale: Value) -> Value:
    """j: how far the scale is shifted to have 15 bits."""
    zeros = b.ctlz(_at_least_one(b, scale), ir.Constant(_I1, 1))
    return b.sub(zeros, splat(I32, scale.type.count, 17))


def scale_down(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
    """((x * 2^j) * r + 2^21) >> 22 by the high half of the product: what is lost below 2^16 is no
    carry into 2^21. All lanes have 16 bits.
    """
    x, power, r = values
    wide = vector(I32, lanes)
    product = b.mul(b.sext(b.mul(x, power), wide), b.sext(r, wide))
    high = b.trunc(b.lshr(product, splat(I32, lanes, 16)), vector(I16, lanes))
    rounded = b.ashr(b.add(high, splat(I16, lanes, 1 << 5)), splat(I16, lanes, 6))
    return b.trunc(rounded, vector(I8, lanes))


def scale_up(b: ir.IRBuilder, op: QScaleUp, values: Sequence[Value], lanes: int) -> Value:
    x, scale, bias = values
    wide = vector(I32, lanes)
    total = b.add(b.mul(b.sext(x, wide), b.sext(scale, wide)), bias)
    y = b.ashr(total, splat(I32, lanes, op.shift))
    return b.trunc(clamp(b, y, op.qmin, op.qmax), vector(ir.IntType(op.bits), lanes))
