"""The epilogue: i32 accumulators to i8. Meaning: qcomp.quant.fixed_point.requantize."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qcomp.quant.fixed_point import AWAY_LOW_BITS, Form, Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Value,
    at,
    broadcast,
    clamp,
    larger,
    load,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.float_product import emit_float_product

UNCLAMPED = (Form.TFLITE, Form.AWAY, Form.ONNX)
"""What no machine has instructions for: kernels leave limits out that are those of i8."""
AWAY_SHIFT_BITS = 8  # of a stored shift of the form AWAY
SMALL_SHIFT = 31  # from here on an i32 times a multiplier below 2^31 is scaled to an i32


@dataclass(frozen=True, eq=False)
class Saturation:
    """min(max(x + zero_point, low), high); vectors of i32."""

    zero_point: Value
    low: Value
    high: Value

    @staticmethod
    def constant(q: Requantize, lanes: int) -> Saturation:
        return Saturation(*(splat(I32, lanes, n) for n in (q.zero_point, q.qmin, q.qmax)))

    @staticmethod
    def loaded(b: ir.IRBuilder, header: Value, lanes: int) -> Saturation:
        """From the header of a layer's parameters, so that layers can share a kernel."""
        return Saturation(
            *(broadcast(b, load(b, at(b, header, 4 * i), I32, 4), lanes) for i in range(3))
        )

    def of_i8(self) -> Saturation:
        """With the limits of i8, which machines may have an instruction for."""
        low, high = (splat(I32, self.low.type.count, n) for n in (-128, 127))
        return Saturation(self.zero_point, low, high)

    def below(self, b: ir.IRBuilder, ceiling: Value) -> Saturation:
        """And at most `ceiling`, a value per lane."""
        high = b.select(b.icmp_signed("<", self.high, ceiling), self.high, ceiling)
        return Saturation(self.zero_point, self.low, high)


# (builder, sums, multipliers, shifts, form, saturation) -> i8, all vectors: as `emit_requantize`.
EmitRequantize = Callable[[ir.IRBuilder, Value, Value, Value, Form, Saturation], Value]


def emit_requantize(
    b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value, form: Form, to: Saturation
) -> Value:
    """<n x i32> accumulators, multipliers and shifts to <n x i8>.

    NARROW expects the rounding 2^(shift-1) already in `acc` (folded into the bias).
    """
    if form is Form.NARROW:
        return saturated(b, _narrow(b, acc, multiplier, shift, to.zero_point), to)
    if form is Form.TFLITE:
        return saturated(b, emit_tflite(b, acc, multiplier, shift, to.zero_point), to)
    if form is Form.WIDE:
        scaled = emit_wide(b, acc, multiplier, shift)
    elif form is Form.AWAY:
        scaled = emit_away(b, acc, multiplier, shift)
    elif form is Form.QUOTIENT:
        scaled = emit_quotient(b, acc, multiplier)
    else:
        scaled = emit_float_product(b, acc, multiplier)
    # |scaled| <= 2^23: these forms are clamped, so the zero point can't overflow.
    return saturated(b, b.add(scaled, to.zero_point), to)


def saturated(b: ir.IRBuilder, x: Value, to: Saturation) -> Value:
    x = b.select(b.icmp_signed("<", x, to.low), to.low, x)
    x = b.select(b.icmp_signed(">", x, to.high), to.high, x)
    return b.trunc(x, vector(I8, x.type.count))


def emit_requantize_by(
    b: ir.IRBuilder, acc: Value, multiplier: Value | int, shift: int, q: Requantize
) -> Value:
    """<n x i32> to <n x i8> by one multiplier (a constant or a scalar i32) and a constant shift.

    The rounding of NARROW is added here: acc + 2^(shift-1) must fit i32.
    """
    lanes = acc.type.count
    if q.form is Form.NARROW and shift > 0:
        acc = b.add(acc, splat(I32, lanes, 1 << (shift - 1)))
    static = isinstance(multiplier, int)
    multipliers = splat(I32, lanes, multiplier) if static else broadcast(b, multiplier, lanes)
    shifts, to = splat(I32, lanes, shift), Saturation.constant(q, lanes)
    if q.form is Form.WIDE and shift >= SMALL_SHIFT:
        scaled = emit_wide_by(b, acc, multipliers, shift)
        return saturated(b, b.add(clamp(b, scaled, -(2**23), 2**23), to.zero_point), to)
    return emit_requantize(b, acc, multipliers, shifts, q.form, to)


def emit_saturate(
    b: ir.IRBuilder, x: Value, zero_point: int, qmin: int, qmax: int, lanes: int
) -> Value:
    """sat(x + zero_point) as i8; |x| leaves room for the sum."""
    shifted = b.add(x, splat(I32, lanes, zero_point)) if zero_point else x
    return b.trunc(clamp(b, shifted, qmin, qmax), vector(I8, lanes))


def _narrow(
    b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value, zero_point: Value
) -> Value:
    """zero_point + mulhrs(t, m); the zero point joins the rounding, as a multiple of 2^15.

    |t * m| < 2^15 * 2^15 and |zero_point * 2^15 + 2^14| < 2^23, so their sum fits i32.
    """
    lanes = acc.type.count
    t = clamp(b, b.ashr(acc, shift), -(2**15), 2**15 - 1)
    # The multiplier is below 2^15: both factors are 16-bit, which machines multiply faster.
    t = b.sext(b.trunc(t, vector(I16, lanes)), vector(I32, lanes))
    fifteen = splat(I32, lanes, 15)
    rounding = b.add(b.shl(zero_point, fifteen), splat(I32, lanes, 1 << 14))
    return b.ashr(b.add(b.mul(t, multiplier), rounding), fifteen)


def emit_wide(b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value) -> Value:
    """(acc * m + 2^(shift-1)) >> shift, 1 <= shift <= 62, clamped to 24 bits.

    |acc * m| < 2^62, and the rounding is at most 2^61: no overflow of i64.
    """
    wide = vector(I64, acc.type.count)
    return _rounded(b, b.mul(b.sext(acc, wide), b.sext(multiplier, wide)), shift)


def _rounded(b: ir.IRBuilder, product: Value, shift: Value) -> Value:
    """(product + 2^(shift-1)) >> shift of lanes of 64 bits, clamped to 24 bits, in 32."""
    lanes = product.type.count
    shift64 = b.zext(shift, product.type)
    one = splat(I64, lanes, 1)
    half = b.shl(one, b.sub(shift64, one))
    scaled = b.ashr(b.add(product, half), shift64)
    return b.trunc(clamp(b, scaled, -(2**23), 2**23), vector(I32, lanes))


def emit_wide_by(b: ir.IRBuilder, acc: Value, multiplier: Value, shift: int) -> Value:
    """(acc * m + 2^(shift-1)) >> shift for SMALL_SHIFT <= shift <= 62, which fits i32.

    Even and odd lanes are multiplied to i64 where they are (pmuldq). |acc * m| < 2^62, so 2^62 more
    is positive: a logical shift, which all machines have, gives the result and 2^(62-shift).
    """
    lanes = acc.type.count
    if lanes % 2:
        return emit_wide(b, acc, multiplier, splat(I32, lanes, shift))
    pairs = vector(I64, lanes // 2)
    thirty_two = splat(I64, lanes // 2, 32)
    origin = splat(I64, lanes // 2, (1 << 62) + (1 << (shift - 1)))

    def scaled(x: Value, m: Value) -> Value:
        """Of the low halves of i64 lanes."""
        low = (b.ashr(b.shl(v, thirty_two), thirty_two) for v in (x, m))
        total = b.lshr(b.add(b.mul(*low), origin), splat(I64, lanes // 2, shift))
        return b.bitcast(total, acc.type)

    x, m = b.bitcast(acc, pairs), b.bitcast(multiplier, pairs)
    even, odd = scaled(x, m), scaled(b.lshr(x, thirty_two), b.lshr(m, thirty_two))
    order = [i for lane in range(0, lanes, 2) for i in (lane, lanes + lane)]
    return b.sub(shuffle(b, even, odd, order), splat(I32, lanes, (1 << (62 - shift)) % 2**32))


def emit_away(b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value) -> Value:
    """Half away from zero, of magnitudes, by a multiplier whose low bits stand above the shift."""
    lanes = acc.type.count
    wide, zero = vector(I64, lanes), splat(I32, lanes, 0)
    negative = b.icmp_signed("<", acc, zero)
    size = b.zext(b.select(negative, b.sub(zero, acc), acc), wide)
    low = b.zext(b.lshr(shift, splat(I32, lanes, AWAY_SHIFT_BITS)), wide)
    lost = splat(I64, lanes, AWAY_LOW_BITS)
    product = b.add(b.mul(size, b.sext(multiplier, wide)), b.lshr(b.mul(size, low), lost))
    places = b.and_(shift, splat(I32, lanes, (1 << AWAY_SHIFT_BITS) - 1))
    scaled = _rounded(b, product, places)
    return b.select(negative, b.sub(zero, scaled), scaled)


def emit_tflite(
    b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value, zero_point: Value
) -> Value:
    """zero_point + gemmlowp's SRDHM and RDPOT, both roundings in one sum and one shift.

    With x = acc << left and right = e,

        (x * m + 2^30 + (2^(30+e) - (2^31 if x < 0 else 0) if e > 0 else 0)) >> (31 + e)

    Even and odd lanes are multiplied to i64 where they are (pmuldq). |x * m| < 2^62, so 2^62 more
    is positive: a logical shift, which all machines have, gives the result and 2^(31-e). The
    certificate has x within i32, and the result and a zero point with it.
    """
    lanes = acc.type.count
    left = larger(b, shift, splat(I32, lanes, 0))
    right, x = b.sub(left, shift), b.shl(acc, left)
    if lanes % 2:
        wide = vector(I64, lanes)
        operands = b.sext(x, wide), b.sext(multiplier, wide), b.zext(right, wide)
        scaled = b.trunc(_twice_rounded(b, *operands), vector(I32, lanes))
    else:
        scaled = in_pairs(b, _twice_rounded, x, multiplier, right)
    origin = b.lshr(splat(I32, lanes, -(2**31)), right)
    return b.sub(scaled, b.sub(origin, zero_point))


def _twice_rounded(b: ir.IRBuilder, x: Value, multiplier: Value, e: Value) -> Value:
    """Of emit_tflite, in lanes of 64 bits, 2^(31-e) more; its low halves count."""
    lanes = x.type.count

    def number(n: int) -> Value:
        return splat(I64, lanes, n)

    second = b.sext(b.icmp_signed(">", e, number(0)), x.type)
    rounding = b.add(b.shl(number(1 << 30), e), b.and_(second, number(1 << 30)))
    product = b.mul(x, multiplier)
    total = b.add(product, b.add(rounding, number(1 << 62)))
    less = b.add(total, b.and_(second, number(-(1 << 31))))
    negative = b.icmp_signed("<", product, number(0))
    return b.lshr(b.select(negative, less, total), b.add(e, number(31)))


def emit_tflite_by(b: ir.IRBuilder, acc: Value, multiplier: int, shift: int) -> Value:
    """By a factor that is known."""
    lanes = acc.type.count
    factor = splat(I32, lanes, multiplier), splat(I32, lanes, shift)
    return emit_tflite(b, acc, *factor, splat(I32, lanes, 0))


def in_pairs(
    b: ir.IRBuilder, of_halves: Callable[..., Value], x: Value, multiplier: Value, shift: Value
) -> Value:
    """What `of_halves` makes of the even lanes and of the odd ones, in lanes of 64 bits; the low
    halves of that, in order. The number of lanes is even.
    """
    lanes = x.type.count
    pairs = vector(I64, lanes // 2)
    thirty_two = splat(I64, lanes // 2, 32)

    def signed(v: Value) -> Value:
        return b.ashr(b.shl(v, thirty_two), thirty_two)

    def unsigned(v: Value) -> Value:
        return b.lshr(b.shl(v, thirty_two), thirty_two)

    words = [b.bitcast(v, pairs) for v in (x, multiplier, shift)]
    even, odd = (
        b.bitcast(of_halves(b, signed(v), signed(m), unsigned(s)), x.type)
        for v, m, s in (words, [b.lshr(w, thirty_two) for w in words])
    )
    order = [i for lane in range(0, lanes, 2) for i in (lane, lanes + lane)]
    return shuffle(b, even, odd, order)


def emit_quotient(b: ir.IRBuilder, acc: Value, divisor: Value) -> Value:
    """acc / divisor, half away from zero, clamped to 24 bits; divisor >= 0, and 0 only of acc 0."""
    lanes = acc.type.count
    zero, one = splat(I32, lanes, 0), splat(I32, lanes, 1)
    size = b.select(b.icmp_signed("<", acc, zero), b.sub(zero, acc), acc)
    divisor = larger(b, divisor, one)
    quotient = b.udiv(b.add(size, b.lshr(divisor, one)), divisor)
    signed = b.select(b.icmp_signed("<", acc, zero), b.sub(zero, quotient), quotient)
    return clamp(b, signed, -(2**23), 2**23)
