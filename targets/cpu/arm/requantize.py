"""The forms WIDE and TFLITE on NEON: i32 sums to i8, four at a time.

Meanings: qcomp.quant.fixed_point.requantize. WIDE is a product of 64 bits and one rounding shift of
it. TFLITE rounds twice. The first is sqrdmulh, (a * m + 2^30) >> 31: gemmlowp adds 1 - 2^30 to a
negative product and divides towards zero, which is the same. The second is away from zero at ties,
which srshl is not: negatives are one less before they are shifted.
What leaves 32 bits saturates: zero points and limits have 8.
"""

from __future__ import annotations

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.scale import halves, products_of_words, scaled_pairs
from qcomp.targets.cpu.arm.intrinsics import saturating_add, sqrdmulh, srshl, sshl
from qcomp.targets.cpu.emit.builder import I32, I64, Value, larger, smaller, splat, vector
from qcomp.targets.cpu.emit.requantize import Saturation, emit_requantize, saturated

_LANES = 4


def neon_requantize(
    b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value, form: Form, to: Saturation
) -> Value:
    """As emit_requantize."""
    if form is Form.WIDE:
        scaled = _wide(b, acc, multiplier, shift)
    elif form is Form.TFLITE:
        scaled = _tflite(b, acc, multiplier, shift)
    else:
        return emit_requantize(b, acc, multiplier, shift, form, to)
    return saturated(b, saturating_add(b, scaled, to.zero_point), to)


def _wide(b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value) -> Value:
    pair = vector(I64, _LANES // 2)
    left = b.sub(splat(I32, _LANES, 0), shift)
    shifts = [b.sext(half, pair) for half in halves(b, left)]
    return scaled_pairs(b, products_of_words(b, acc, multiplier), shifts)


def _tflite(b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value) -> Value:
    """Shifts are to the left before the product, or to the right after it."""
    zero = splat(I32, _LANES, 0)
    right = smaller(b, shift, zero)
    high = sqrdmulh(b, sshl(b, acc, larger(b, shift, zero)), multiplier)
    less = b.ashr(b.and_(high, right), splat(I32, _LANES, 31))
    return srshl(b, saturating_add(b, high, less), right)
