"""Bodies of elementwise loops with operands or results of 16 bits.

Lanes are i64 unless a docstring proves that fewer bits are enough.

Meanings: qcomp.ir.evaluate.integer_elementwise.
"""

from __future__ import annotations

from qcomp.ir.ops import (
    Interpolate,
    QAddWide,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QRescale,
)
from qcomp.quant.interpolation import FRACTION_BITS
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    I64,
    Value,
    at,
    clamp,
    larger,
    load,
    smaller,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.i16.entries import Neighbours
from qcomp.targets.cpu.emit.i16.scale import (
    rounding_shift,
    saturated,
    saturation,
    scaled_by,
)
from qcomp.targets.cpu.emit.requantize import Saturation
from qcomp.targets.cpu.emit.words import word, word_type


def centred(b: ir.IRBuilder, x: Value, zero_point: int, element: ir.IntType) -> Value:
    """x - zero_point, within 17 bits."""
    lanes = x.type.count
    wide = b.sext(x, vector(element, lanes))
    return b.sub(wide, splat(element, lanes, zero_point)) if zero_point else wide


def rescale(b: ir.IRBuilder, op: QRescale, x: Value) -> Value:
    x = centred(b, x, op.x_zero_point, I32)
    return _requantized(b, op, scaled_by(b, x, op.multiplier, op.shift))


def mul(b: ir.IRBuilder, op: QMul, a: Value, c: Value) -> Value:
    """The product fits i32."""
    product = b.mul(centred(b, a, op.a_zero_point, I32), centred(b, c, op.b_zero_point, I32))
    return _requantized(b, op, scaled_by(b, product, op.multiplier, op.shift))


def add_wide(b: ir.IRBuilder, op: QAddWide, a: Value, c: Value) -> Value:
    """17 bits times 31 bits, twice."""
    lanes = a.type.count
    first, second = (
        b.mul(centred(b, x, zero_point, I64), splat(I64, lanes, multiplier))
        for x, zero_point, multiplier in (
            (a, op.a_zero_point, op.a_multiplier),
            (c, op.b_zero_point, op.b_multiplier),
        )
    )
    return _shifted(b, op, b.add(first, second))


def prelu(b: ir.IRBuilder, op: QPRelu, x: Value, negative: Value) -> Value:
    """17 bits times 31 bits."""
    lanes = x.type.count
    t = centred(b, x, op.x_zero_point, I64)
    below = b.icmp_signed("<", t, splat(I64, lanes, 0))
    slope = b.sext(negative, vector(I64, lanes))
    multiplier = b.select(below, slope, splat(I64, lanes, op.positive_multiplier))
    return _shifted(b, op, b.mul(t, multiplier))


def div(b: ir.IRBuilder, op: QDiv, a: Value, c: Value) -> Value:
    return _saturated(b, op, b.trunc(quotient(b, op, a, c), vector(I32, a.type.count)))


def quotient(b: ir.IRBuilder, op: QDiv, a: Value, c: Value) -> Value:
    """Rounded, as i64 within 2^(bits + 2). Magnitudes in u64: 2|n| + |d| < 2^62 + 2^61. A zero
    divisor becomes 1 for now.
    """
    lanes = a.type.count
    zero, one = splat(I64, lanes, 0), splat(I64, lanes, 1)

    def magnitude(x: Value) -> Value:
        return b.select(b.icmp_signed("<", x, zero), b.sub(zero, x), x)

    n = b.mul(centred(b, a, op.a_zero_point, I64), splat(I64, lanes, op.multiplier))
    d = b.shl(centred(b, c, op.b_zero_point, I64), splat(I64, lanes, op.shift))
    by_zero = b.icmp_signed("==", d, zero)
    divisor = b.select(by_zero, one, magnitude(d))
    quotient = b.udiv(b.add(b.shl(magnitude(n), one), divisor), b.shl(divisor, one))
    beyond = splat(I64, lanes, 1 << (op.bits + 2))  # what a zero divisor gives, and all above
    infinite = b.select(b.icmp_signed("==", n, zero), zero, beyond)
    quotient = b.select(b.icmp_unsigned("<", quotient, beyond), quotient, beyond)
    size = b.select(by_zero, infinite, quotient)
    negative = b.icmp_signed("<", b.select(by_zero, n, b.xor(n, d)), zero)
    return b.select(negative, b.sub(zero, size), size)


def minimum(b: ir.IRBuilder, op: QMinimum, a: Value, c: Value) -> Value:
    return clamp(b, smaller(b, a, c), op.qmin, op.qmax)


def maximum(b: ir.IRBuilder, op: QMaximum, a: Value, c: Value) -> Value:
    return clamp(b, larger(b, a, c), op.qmin, op.qmax)


def interpolate(
    b: ir.IRBuilder, x: Value, table: Value, op: Interpolate, neighbours: Neighbours
) -> Value:
    """The two entries around an element are 64 bits; all of it fits i32."""
    lanes, k = x.type.count, op.step_bits
    wide = b.sext(x, vector(I32, lanes))
    index = b.add(b.ashr(wide, splat(I32, lanes, k)), splat(I32, lanes, 1 << (15 - k)))
    both = neighbours(b, table, index)
    low = b.trunc(both, vector(I32, lanes))
    high = b.trunc(b.lshr(both, splat(I64, lanes, 32)), vector(I32, lanes))
    rest = b.and_(wide, splat(I32, lanes, (1 << k) - 1))
    t = b.add(b.shl(low, splat(I32, lanes, k)), b.mul(b.sub(high, low), rest))
    rounded = b.add(t, splat(I32, lanes, 1 << (k + FRACTION_BITS - 1)))
    return _saturated(b, op, b.ashr(rounded, splat(I32, lanes, k + FRACTION_BITS)))


def looked_up(b: ir.IRBuilder, x: Value, table: Value) -> Value:
    """table[x + 128] for a table of i16, entry by entry."""
    lanes = x.type.count
    result = ir.undefined(vector(I16, lanes))
    middle = at(b, table, 2 * 128)
    for lane in range(lanes):
        where = ir.Constant(I32, lane)
        entry = b.sext(b.extract_element(x, where), word_type(b))
        slot = at(b, middle, b.shl(entry, word(b, 1)))
        result = b.insert_element(result, load(b, slot, I16, 2), where)
    return result


def _requantized(b: ir.IRBuilder, op: QRescale | QMul, x: Value) -> Value:
    q = op.requantize
    return saturated(b, x, Saturation.constant(q, x.type.count), ir.IntType(q.bits))


def _shifted(b: ir.IRBuilder, op: QAddWide | QPRelu, x: Value) -> Value:
    return _saturated(b, op, rounding_shift(b, x, op.shift))


def _saturated(b: ir.IRBuilder, op: QAddWide | QDiv | QPRelu | Interpolate, x: Value) -> Value:
    to = saturation(op.zero_point, op.qmin, op.qmax, x.type.count)
    return saturated(b, x, to, ir.IntType(op.bits))
