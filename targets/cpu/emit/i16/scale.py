"""From i64 values to results of 8 or 16 bits: multiply, shift with rounding, saturate.

Meaning: qcomp.quant.fixed_point.requantize in the form WIDE, the only one of ops on i16.
"""

from __future__ import annotations

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, Value, clamp, splat, vector
from qcomp.targets.cpu.emit.requantize import Saturation

_BEYOND = 2**23  # larger than every result and every zero point, so sums with them fit i32


def scaled(b: ir.IRBuilder, x: Value, multiplier: Value, shift: Value) -> Value:
    """round_shift(x * multiplier, shift) within 24 bits, i32 lanes; x is i32 or i64, else i32.

    0 <= shift <= 62, and the caller certifies that the product and its rounding fit i64.
    """
    lanes = x.type.count
    wide = vector(I64, lanes)
    one, shift = splat(I64, lanes, 1), b.zext(shift, wide)
    half = b.lshr(b.shl(one, shift), one)
    product = b.mul(b.sext(x, wide), b.sext(multiplier, wide))
    return within_24_bits(b, b.ashr(b.add(product, half), shift))


def scaled_by(b: ir.IRBuilder, x: Value, multiplier: int, shift: int) -> Value:
    """`scaled` by constants that all lanes share."""
    lanes = x.type.count
    return scaled(b, x, splat(I32, lanes, multiplier), splat(I32, lanes, shift))


def rounding_shift(b: ir.IRBuilder, x: Value, shift: int) -> Value:
    """(x + 2^(shift-1)) >> shift of i64 lanes, within 24 bits as i32."""
    lanes = x.type.count
    if shift:
        x = b.add(x, splat(I64, lanes, 1 << (shift - 1)))
        x = b.ashr(x, splat(I64, lanes, shift))
    return within_24_bits(b, x)


def within_24_bits(b: ir.IRBuilder, x: Value) -> Value:
    """i64 lanes as i32; what leaves 24 bits saturates in any case."""
    return b.trunc(clamp(b, x, -_BEYOND, _BEYOND), vector(I32, x.type.count))


def saturated(b: ir.IRBuilder, x: Value, to: Saturation, result: ir.IntType) -> Value:
    """sat(x + zero_point) of i32 lanes within 24 bits, as results."""
    x = b.add(x, to.zero_point)
    x = b.select(b.icmp_signed("<", x, to.low), to.low, x)
    x = b.select(b.icmp_signed(">", x, to.high), to.high, x)
    return b.trunc(x, vector(result, x.type.count))


def saturation(zero_point: int, qmin: int, qmax: int, lanes: int) -> Saturation:
    return Saturation(*(splat(I32, lanes, n) for n in (zero_point, qmin, qmax)))
