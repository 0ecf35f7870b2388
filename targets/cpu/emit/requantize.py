"""The epilogue: i32 accumulators to i8. Meaning: qcomp.quant.fixed_point.requantize."""

from __future__ import annotations

from llvmlite import ir

from qcomp.errors import TargetError
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Value,
    broadcast,
    clamp,
    splat,
    vector,
)


def emit_requantize(
    b: ir.IRBuilder,
    acc: Value,
    multiplier: Value,
    shift: Value,
    q: Requantize,
    ceiling: Value | None = None,
) -> Value:
    """<n x i32> accumulators, multipliers and shifts to <n x i8>; then min(result, ceiling).

    NARROW expects the rounding 2^(shift-1) already in `acc` (folded into the bias).
    """
    lanes = acc.type.count
    if q.form is Form.NARROW:
        scaled = _narrow(b, acc, multiplier, shift)
    elif q.form is Form.WIDE:
        scaled = emit_wide(b, acc, multiplier, shift)
    elif q.form is Form.TFLITE:
        scaled = _tflite(b, acc, multiplier, shift)
    else:
        raise TargetError(
            f"the requantize form {q.form.value} needs floats, which targets do not emit"
        )
    # |scaled| <= 2^31 - 1 - 128 is guaranteed: NARROW is below 2^15, WIDE and TFLITE are clamped.
    return emit_saturate(b, scaled, q.zero_point, q.qmin, q.qmax, lanes, ceiling)


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
    return emit_requantize(b, acc, multipliers, splat(I32, lanes, shift), q)


def emit_saturate(
    b: ir.IRBuilder,
    x: Value,
    zero_point: int,
    qmin: int,
    qmax: int,
    lanes: int,
    ceiling: Value | None = None,
) -> Value:
    """min(sat(x + zero_point), ceiling) as i8; |x| leaves room for the sum."""
    shifted = b.add(x, splat(I32, lanes, zero_point)) if zero_point else x
    saturated = clamp(b, shifted, qmin, qmax)
    if ceiling is not None:
        saturated = b.select(b.icmp_signed("<", saturated, ceiling), saturated, ceiling)
    return b.trunc(saturated, vector(I8, lanes))


def _narrow(b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value) -> Value:
    """|t * m| < 2^15 * 2^15, so the product and its rounding fit i32."""
    lanes = acc.type.count
    t = clamp(b, b.ashr(acc, shift), -(2**15), 2**15 - 1)
    # The multiplier is below 2^15: both factors are 16-bit, which machines multiply faster.
    t = b.sext(b.trunc(t, vector(I16, lanes)), vector(I32, lanes))
    product = b.add(b.mul(t, multiplier), splat(I32, lanes, 1 << 14))
    return b.ashr(product, splat(I32, lanes, 15))


def emit_wide(b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value) -> Value:
    """(acc * m + 2^(shift-1)) >> shift, 1 <= shift <= 62, clamped to 24 bits.

    |acc * m| < 2^62, and the rounding is at most 2^61: no overflow of i64.
    """
    lanes = acc.type.count
    wide = vector(I64, lanes)
    product = b.mul(b.sext(acc, wide), b.sext(multiplier, wide))
    shift64 = b.zext(shift, wide)
    one = splat(I64, lanes, 1)
    half = b.shl(one, b.sub(shift64, one))
    scaled = b.ashr(b.add(product, half), shift64)
    return b.trunc(clamp(b, scaled, -(2**23), 2**23), vector(I32, lanes))


def _tflite(b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value) -> Value:
    """gemmlowp's SRDHM and RDPOT. INT_MIN * INT_MIN can't occur: multipliers are not negative."""
    lanes = acc.type.count
    wide = vector(I64, lanes)
    zero = splat(I32, lanes, 0)
    positive = b.icmp_signed(">", shift, zero)
    left = b.select(positive, shift, zero)
    right = b.select(positive, zero, b.sub(zero, shift))
    product = b.mul(b.sext(b.shl(acc, left), wide), b.sext(multiplier, wide))
    zero64 = splat(I64, lanes, 0)
    nudge = b.select(
        b.icmp_signed(">=", product, zero64),
        splat(I64, lanes, 1 << 30),
        splat(I64, lanes, 1 - (1 << 30)),
    )
    nudged = b.add(product, nudge)
    # Division by 2^31 truncates: add 2^31 - 1 to negatives before the arithmetic shift.
    bias = b.select(b.icmp_signed("<", nudged, zero64), splat(I64, lanes, (1 << 31) - 1), zero64)
    high = b.trunc(b.ashr(b.add(nudged, bias), splat(I64, lanes, 31)), vector(I32, lanes))
    one = splat(I32, lanes, 1)
    mask = b.sub(b.shl(one, right), one)
    remainder = b.and_(high, mask)
    negative = b.zext(b.icmp_signed("<", high, zero), vector(I32, lanes))
    threshold = b.add(b.lshr(mask, one), negative)
    up = b.zext(b.icmp_signed(">", remainder, threshold), vector(I32, lanes))
    return clamp(b, b.add(b.ashr(high, right), up), -(2**23), 2**23)
