"""Bodies of elementwise loops: vectors of i8 in, a vector of i8 out.

Meanings: qcomp.ir.evaluate.integer_elementwise. Every op is a function of its frozen
record; lanes are i32 unless a docstring proves that fewer bits are enough.
"""

from __future__ import annotations

from qcomp.ir.ops import (
    QAdd,
    QAddRescaled,
    QAddWide,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QPReluRescaled,
)
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    Value,
    clamp,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.requantize import (
    emit_requantize_by,
    emit_saturate,
    emit_tflite_by,
)

_I16_MAX = 2**15 - 1


def centred(b: ir.IRBuilder, x: Value, zero_point: int, element: ir.Type = I32) -> Value:
    """x - zero_point, in [-255, 255]."""
    lanes = x.type.count
    wide = b.sext(x, vector(element, lanes))
    return b.sub(wide, splat(element, lanes, zero_point)) if zero_point else wide


def add(b: ir.IRBuilder, op: QAdd, a: Value, c: Value) -> Value:
    """|(x - z) << 7| <= 32640 and |multiplier| < 2^15: 16-bit factors, products below 2^30."""
    lanes = a.type.count

    def term(x: Value, zero_point: int, multiplier: int) -> Value:
        t = b.shl(centred(b, x, zero_point, I16), splat(I16, lanes, 7))
        product = b.mul(b.sext(t, vector(I32, lanes)), splat(I32, lanes, multiplier))
        return b.ashr(b.add(product, splat(I32, lanes, 1 << 14)), splat(I32, lanes, 15))

    total = b.add(
        term(a, op.a_zero_point, op.a_multiplier), term(c, op.b_zero_point, op.b_multiplier)
    )
    return _shifted(b, total, op.fraction_bits, op.zero_point, op.qmin, op.qmax)


def _largest(zero_point: int) -> int:
    """|x - zero_point| of an i8."""
    return max(zero_point + 128, 127 - zero_point)


def add_fits_words(op: QAdd) -> bool:
    """Both terms, their sum and the rounding stay within i16."""
    terms = (
        ((_largest(zero_point) << 7) * abs(multiplier) + 2**14) >> 15
        for zero_point, multiplier in (
            (op.a_zero_point, op.a_multiplier),
            (op.b_zero_point, op.b_multiplier),
        )
    )
    small = max(abs(op.a_multiplier), abs(op.b_multiplier)) <= _I16_MAX
    return small and sum(terms) + (1 << op.fraction_bits >> 1) <= _I16_MAX


def _shifted(b: ir.IRBuilder, x: Value, shift: int, zero_point: int, qmin: int, qmax: int) -> Value:
    """sat(zero_point + ((x + 2^(shift-1)) >> shift))."""
    lanes = x.type.count
    if shift:
        x = b.add(x, splat(I32, lanes, 1 << (shift - 1)))
        x = b.ashr(x, splat(I32, lanes, shift))
    return emit_saturate(b, x, zero_point, qmin, qmax, lanes)


def add_wide(b: ir.IRBuilder, op: QAddWide, a: Value, c: Value) -> Value:
    """The constants are chosen so that both products and the rounding fit i32."""
    lanes = a.type.count
    total = b.add(
        b.mul(centred(b, a, op.a_zero_point), splat(I32, lanes, op.a_multiplier)),
        b.mul(centred(b, c, op.b_zero_point), splat(I32, lanes, op.b_multiplier)),
    )
    return _shifted(b, total, op.shift, op.zero_point, op.qmin, op.qmax)


def add_rescaled(b: ir.IRBuilder, op: QAddRescaled, a: Value, c: Value) -> Value:
    """The certificate has all three sums within i32.

    With t = x - zero_point the high product of t << left and m = h * 2^16 + l is a sum of two of 32
    bits, (t * m + 2^k) >> (k + 1) = ((t * h) << (15 - k)) + ((t * l + 2^k) >> (k + 1)), k = 30 -
    left: |t| < 2^8, h < 2^15 and l < 2^16. The factor 1/2, which the larger scale has, is a shift.
    """
    lanes = a.type.count

    def number(n: int) -> Value:
        return splat(I32, lanes, n)

    def term(x: Value, zero_point: int, multiplier: int, shift: int) -> Value:
        t, left = centred(b, x, zero_point), op.left_shift
        if multiplier == 1 << 30 and left - 1 + shift >= 0:
            return b.shl(t, number(left - 1 + shift))
        if left < 15 or shift > 0:
            return emit_tflite_by(b, b.shl(t, number(left)), multiplier, shift)
        high, low = divmod(multiplier, 1 << 16)
        rounded = b.add(b.mul(t, number(low)), number(1 << (30 - left)))
        product = b.add(
            b.shl(b.mul(t, number(high)), number(left - 15)), b.ashr(rounded, number(31 - left))
        )
        return _divided_by_power(b, product, -shift)

    first = term(a, op.a_zero_point, op.a_multiplier, op.a_shift)
    second = term(c, op.b_zero_point, op.b_multiplier, op.b_shift)
    total = b.add(first, second) if op.b_sign > 0 else b.sub(first, second)
    return emit_requantize_by(b, total, op.multiplier, op.shift, op.requantize)


def _divided_by_power(b: ir.IRBuilder, x: Value, exponent: int) -> Value:
    """x / 2^exponent, half away from zero; |x| < 2^30."""
    if not exponent:
        return x
    lanes = x.type.count
    half = b.add(x, splat(I32, lanes, 1 << (exponent - 1)))
    return b.ashr(b.add(half, b.ashr(x, splat(I32, lanes, 31))), splat(I32, lanes, exponent))


def mul(b: ir.IRBuilder, op: QMul, a: Value, c: Value) -> Value:
    """|product| <= 255^2."""
    acc = b.mul(centred(b, a, op.a_zero_point), centred(b, c, op.b_zero_point))
    return emit_requantize_by(b, acc, op.multiplier, op.shift, op.requantize)


def div(b: ir.IRBuilder, op: QDiv, a: Value, c: Value) -> Value:
    """Magnitudes in u32: 2|n| + |d| < 2^31 + 2^30. A zero divisor becomes 1 for now."""
    lanes = a.type.count
    zero, one = splat(I32, lanes, 0), splat(I32, lanes, 1)

    def magnitude(x: Value) -> Value:
        return b.select(b.icmp_signed("<", x, zero), b.sub(zero, x), x)

    n = b.mul(centred(b, a, op.a_zero_point), splat(I32, lanes, op.multiplier))
    d = b.shl(centred(b, c, op.b_zero_point), splat(I32, lanes, op.shift))
    negative = b.icmp_signed("<", b.xor(n, d), zero)
    size, divisor = magnitude(n), magnitude(d)
    by_zero = b.icmp_signed("==", d, zero)
    safe = b.select(by_zero, one, divisor)
    quotient = b.udiv(b.add(b.shl(size, one), safe), b.shl(safe, one))
    # A quotient by zero is "infinite": anything beyond the range of i8 saturates.
    infinite = b.select(b.icmp_signed("==", n, zero), zero, splat(I32, lanes, 1 << 20))
    quotient = b.select(by_zero, infinite, clamp(b, quotient, 0, 1 << 20))
    sign = b.select(by_zero, b.icmp_signed("<", n, zero), negative)
    signed = b.select(sign, b.sub(zero, quotient), quotient)
    return emit_saturate(b, signed, op.zero_point, op.qmin, op.qmax, lanes)


def minimum(b: ir.IRBuilder, op: QMinimum, a: Value, c: Value) -> Value:
    return clamp(b, b.select(b.icmp_signed("<", a, c), a, c), op.qmin, op.qmax)


def maximum(b: ir.IRBuilder, op: QMaximum, a: Value, c: Value) -> Value:
    return clamp(b, b.select(b.icmp_signed(">", a, c), a, c), op.qmin, op.qmax)


def prelu(b: ir.IRBuilder, op: QPRelu, x: Value, negative: Value) -> Value:
    """|t| <= 255 and |multipliers| < 2^22: products fit i32."""
    lanes = x.type.count
    t = centred(b, x, op.x_zero_point)
    is_negative = b.icmp_signed("<", t, splat(I32, lanes, 0))
    multiplier = b.select(is_negative, negative, splat(I32, lanes, op.positive_multiplier))
    return _shifted(b, b.mul(t, multiplier), op.shift, op.zero_point, op.qmin, op.qmax)


def prelu_rescaled(b: ir.IRBuilder, op: QPReluRescaled, x: Value, slope: Value) -> Value:
    """|t| and |slope - zero point| are at most 255."""
    lanes = x.type.count
    t = centred(b, x, op.x_zero_point)
    products = b.mul(t, centred(b, slope, op.slope_zero_point))
    above = emit_requantize_by(b, t, op.positive_multiplier, op.positive_shift, op.requantize)
    below = emit_requantize_by(b, products, op.multiplier, op.shift, op.requantize)
    return b.select(b.icmp_signed("<", t, splat(I32, lanes, 0)), below, above)
