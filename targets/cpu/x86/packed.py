"""Elementwise ops on x86: stored bytes (value + BIAS) in, stored bytes out, 16-bit lanes between.

Bytes are widened by unpacks and narrowed by packs, which undo each other within 128-bit lanes, so
no value crosses a lane. Meanings: qcomp.ir.evaluate.integer_elementwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.ir.ops import Op, QAdd, QMaximum, QMinimum, QMul
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    larger_unsigned,
    smaller_unsigned,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.elementwise import add_fits_words
from qcomp.targets.cpu.emit.lanes import first_lanes, in_lanes, zipped
from qcomp.targets.cpu.emit.nest import Body
from qcomp.targets.cpu.emit.requantize import SMALL_SHIFT, emit_wide_by
from qcomp.targets.cpu.storage import BIAS
from qcomp.targets.cpu.x86 import intrinsics as x86


def packed_body(op: Op) -> Body | None:
    """The body of an op, or None where its constants need more than 16 bits."""
    match op:
        case QAdd() if add_fits_words(op):
            return _in_halves(lambda b, a, c: _sum(b, op, a, c), op.qmin, op.qmax)
        case QMul(requantize=q) if q.form is Form.NARROW and op.shift <= 15:
            return _in_halves(lambda b, a, c: _product(b, op, a, c), q.qmin, q.qmax)
        case QMul(requantize=q) if q.form is Form.WIDE and op.shift >= SMALL_SHIFT:
            return _in_halves(lambda b, a, c: _wide_product(b, op, a, c), q.qmin, q.qmax)
        case QMinimum():
            return lambda b, values, lanes: clamped(
                b, smaller_unsigned(b, *values), op.qmin, op.qmax
            )
        case QMaximum():
            return lambda b, values, lanes: clamped(
                b, larger_unsigned(b, *values), op.qmin, op.qmax
            )
        case _:
            return None


def clamped(b: ir.IRBuilder, x: Value, qmin: int, qmax: int) -> Value:
    """Stored bytes saturated to values in [qmin, qmax]."""
    lanes = x.type.count
    if qmin > -BIAS:
        x = larger_unsigned(b, x, splat(I8, lanes, qmin + BIAS))
    if qmax < BIAS - 1:
        x = smaller_unsigned(b, x, splat(I8, lanes, qmax + BIAS))
    return x


def widened(b: ir.IRBuilder, x: Value) -> tuple[Value, Value]:
    """Bytes as u16: the low and the high halves of all lanes."""
    count = x.type.count
    zero = splat(I8, count, 0)
    halves = [zipped(b, x, zero, high=high) for high in (False, True)]
    low, high = (b.bitcast(half, vector(I16, count // 2)) for half in halves)
    return low, high


def _in_halves(
    compute: Callable[[ir.IRBuilder, Value, Value], Value], qmin: int, qmax: int
) -> Body:
    """The body that does compute(a, b) -> value + BIAS in lanes of 16 bits."""

    def body(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
        operands = [widened(b, in_lanes(b, x)) for x in values]
        results = [compute(b, *halves) for halves in zip(*operands, strict=True)]
        return first_lanes(b, clamped(b, x86.packuswb(b, *results), qmin, qmax), lanes)

    return body


def _centred(b: ir.IRBuilder, x: Value, zero_point: int) -> Value:
    """Stored bytes in i16 lanes to x - zero_point."""
    stored = zero_point + BIAS
    return b.sub(x, splat(I16, x.type.count, stored)) if stored else x


def _sum(b: ir.IRBuilder, op: QAdd, a: Value, c: Value) -> Value:
    lanes = a.type.count

    def term(x: Value, zero_point: int, multiplier: int) -> Value:
        t = b.shl(_centred(b, x, zero_point), splat(I16, lanes, 7))
        return x86.pmulhrsw(b, t, splat(I16, lanes, multiplier))

    total = b.add(
        term(a, op.a_zero_point, op.a_multiplier), term(c, op.b_zero_point, op.b_multiplier)
    )
    if op.fraction_bits:
        total = b.add(total, splat(I16, lanes, 1 << (op.fraction_bits - 1)))
        total = b.ashr(total, splat(I16, lanes, op.fraction_bits))
    return x86.saturating_add(b, total, splat(I16, lanes, op.zero_point + BIAS))


def _product(b: ir.IRBuilder, op: QMul, a: Value, c: Value) -> Value:
    """At most 255^2 + 2^14 with the rounding, which pmaddwd adds."""
    lanes = a.type.count
    shift = splat(I32, lanes // 2, op.shift)
    low, high = (b.ashr(x, shift) for x in _products(b, op, a, c, 1 << op.shift >> 1))
    scaled = x86.pmulhrsw(b, x86.packssdw(b, low, high), splat(I16, lanes, op.multiplier))
    return x86.saturating_add(b, scaled, splat(I16, lanes, op.requantize.zero_point + BIAS))


def _wide_product(b: ir.IRBuilder, op: QMul, a: Value, c: Value) -> Value:
    """A factor below 1 leaves at most 255^2: the zero point can't overflow i32."""
    lanes = a.type.count // 2
    multiplier = splat(I32, lanes, op.multiplier)
    zero_point = splat(I32, lanes, op.requantize.zero_point + BIAS)
    low, high = (
        b.add(emit_wide_by(b, x, multiplier, op.shift), zero_point)
        for x in _products(b, op, a, c, 0)
    )
    return x86.packssdw(b, low, high)


def _products(b: ir.IRBuilder, op: QMul, a: Value, c: Value, rounding: int) -> tuple[Value, Value]:
    """a * c + 1 * rounding as i32: the low and the high halves of all lanes."""
    lanes = a.type.count
    x, y = _centred(b, a, op.a_zero_point), _centred(b, c, op.b_zero_point)
    ones, halves = splat(I16, lanes, 1), splat(I16, lanes, rounding)
    low, high = (
        x86.pmaddwd(b, zipped(b, x, ones, high=part), zipped(b, y, halves, high=part))
        for part in (False, True)
    )
    return low, high
