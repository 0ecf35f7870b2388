"""The form ONNX: an accumulator times a float32, rounded as float32 rounds, in integers alone.

Meaning: qcomp.quant.fixed_point.requantize (ONNX). With the multiplier m * 2^e, m of 24 bits, it is

    r = |acc| to 24 bits;  p = r * m to 24 bits;  q = p * 2^e to a whole number

each rounded half to even, with the sign of acc. Lanes have 64 bits: r * m < 2^49.
"""

from __future__ import annotations

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, Value, larger, smaller, splat, vector

_MANTISSA = 23  # bits of a float32 that it stores
_UNIT = 127 + _MANTISSA  # the exponent as stored whose mantissa counts units
_VANISHED = 40  # places after which 24 bits are 0, rounded
_MOST = 1024  # what no result of 8 bits reaches


def emit_float_product(b: ir.IRBuilder, acc: Value, multiplier: Value) -> Value:
    """<n x i32> accumulators and the bits of float32 factors to <n x i32> within +-1024."""
    lanes = acc.type.count
    wide, zero = vector(I64, lanes), splat(I32, lanes, 0)
    negative = b.icmp_signed("<", acc, zero)
    size = b.zext(b.select(negative, b.sub(zero, acc), acc), wide)
    mantissa, exponent = _decoded(b, b.zext(multiplier, wide))
    acc_24, lost = _to_float32(b, size)
    product, more = _to_float32(b, b.mul(acc_24, mantissa))
    # The product times 2^-places; where these are negative, it is as large as can be.
    places = b.sub(splat(I64, lanes, _UNIT), b.add(exponent, b.add(lost, more)))
    none = splat(I64, lanes, 0)
    left = smaller(b, larger(b, b.sub(none, places), none), splat(I64, lanes, 30))
    right = smaller(b, larger(b, places, none), splat(I64, lanes, _VANISHED))
    whole = _half_to_even(b, b.shl(product, left), right)
    result = b.trunc(smaller(b, whole, splat(I64, lanes, _MOST)), vector(I32, lanes))
    return b.select(negative, b.sub(zero, result), result)


def _decoded(b: ir.IRBuilder, bits: Value) -> tuple[Value, Value]:
    """Mantissa and stored exponent of float32 numbers that are not negative; small ones have no
    leading bit, and the exponent 1.
    """
    lanes = bits.type.count
    stored = b.lshr(bits, splat(I64, lanes, _MANTISSA))
    fraction = b.and_(bits, splat(I64, lanes, (1 << _MANTISSA) - 1))
    subnormal = b.icmp_signed("==", stored, splat(I64, lanes, 0))
    whole = b.add(fraction, splat(I64, lanes, 1 << _MANTISSA))
    return b.select(subnormal, fraction, whole), larger(b, stored, splat(I64, lanes, 1))


def _to_float32(b: ir.IRBuilder, x: Value) -> tuple[Value, Value]:
    """x, not negative, rounded to 24 significant bits, and how many places it lost."""
    lanes = x.type.count
    zeros = b.ctlz(b.or_(x, splat(I64, lanes, 1)), ir.Constant(ir.IntType(1), 1))
    lost = larger(b, b.sub(splat(I64, lanes, 63 - _MANTISSA), zeros), splat(I64, lanes, 0))
    return _half_to_even(b, x, lost), lost


def _half_to_even(b: ir.IRBuilder, x: Value, places: Value) -> Value:
    """x / 2^places of 0 <= x < 2^62, rounded; computed of 2 x, so that no places are no case."""
    one = splat(I64, x.type.count, 1)
    twice, all_places = b.shl(x, one), b.add(places, one)
    odd = b.and_(b.lshr(twice, all_places), one)
    below_half = b.sub(b.shl(one, places), one)
    return b.lshr(b.add(b.add(twice, below_half), odd), all_places)
