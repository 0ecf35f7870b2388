"""Elementwise ops on NEON: sixteen bytes in, sixteen out, two vectors of 16 bits between.

Meanings: qcomp.ir.evaluate.integer_elementwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.ir.ops import Op, QAdd, QMaximum, QMinimum, QMul
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import (
    saturating_add,
    sqrdmulh,
    sqxtn_bytes,
    sqxtn_words,
    srshl,
)
from qcomp.targets.cpu.emit.builder import I8, I16, I32, Value, larger, shuffle, smaller, splat
from qcomp.targets.cpu.emit.elementwise import add_fits_words, centred
from qcomp.targets.cpu.emit.lanes import first_lanes, in_lanes
from qcomp.targets.cpu.emit.nest import Body

_BYTES, _WORDS = 16, 8

Compute = Callable[[ir.IRBuilder, Value, Value], Value]


def neon_body(op: Op) -> Body | None:
    """The body of an op, or None where its constants need more than 16 bits."""
    match op:
        case QAdd() if add_fits_words(op):
            return _in_halves(lambda b, a, c: _sum(b, op, a, c), op.qmin, op.qmax)
        case QMul(requantize=q) if q.form is Form.NARROW:
            return _in_halves(lambda b, a, c: _product(b, op, a, c), q.qmin, q.qmax)
        case QMinimum():
            return lambda b, values, lanes: _clamped(b, smaller(b, *values), op.qmin, op.qmax)
        case QMaximum():
            return lambda b, values, lanes: _clamped(b, larger(b, *values), op.qmin, op.qmax)
        case _:
            return None


def _clamped(b: ir.IRBuilder, x: Value, qmin: int, qmax: int) -> Value:
    lanes = x.type.count
    if qmin > -128:
        x = larger(b, x, splat(I8, lanes, qmin))
    if qmax < 127:
        x = smaller(b, x, splat(I8, lanes, qmax))
    return x


def _in_halves(compute: Compute, qmin: int, qmax: int) -> Body:
    """The body that does compute(bytes, bytes) -> i16 on eight bytes at a time."""

    def body(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
        wide = [in_lanes(b, x, _BYTES) for x in values]
        halves = []
        for first in (0, _WORDS):
            half = range(first, first + _WORDS)
            halves.append(compute(b, *(shuffle(b, x, x, half) for x in wide)))
        return first_lanes(b, _clamped(b, sqxtn_bytes(b, *halves), qmin, qmax), lanes)

    return body


def _sum(b: ir.IRBuilder, op: QAdd, a: Value, c: Value) -> Value:
    """|(x - z) << 7| <= 32640; mulhrs by 2^(15 - f) is the rounding shift by f >= 1."""

    def term(x: Value, zero_point: int, multiplier: int) -> Value:
        t = b.shl(centred(b, x, zero_point, I16), splat(I16, _WORDS, 7))
        return sqrdmulh(b, t, splat(I16, _WORDS, multiplier))

    total = b.add(
        term(a, op.a_zero_point, op.a_multiplier), term(c, op.b_zero_point, op.b_multiplier)
    )
    if op.fraction_bits:
        total = sqrdmulh(b, total, splat(I16, _WORDS, 1 << (15 - op.fraction_bits)))
    return saturating_add(b, total, splat(I16, _WORDS, op.zero_point))


def _product(b: ir.IRBuilder, op: QMul, a: Value, c: Value) -> Value:
    """|products| <= 255^2."""
    x, y = centred(b, a, op.a_zero_point, I16), centred(b, c, op.b_zero_point, I16)
    parts = []
    for first in (0, _WORDS // 2):
        half = range(first, first + _WORDS // 2)
        wide = [b.sext(shuffle(b, v, v, half), ir.VectorType(I32, len(half))) for v in (x, y)]
        parts.append(srshl(b, b.mul(*wide), splat(I32, len(half), -op.shift)))
    scaled = sqrdmulh(b, sqxtn_words(b, *parts), splat(I16, _WORDS, op.multiplier))
    return saturating_add(b, scaled, splat(I16, _WORDS, op.requantize.zero_point))
