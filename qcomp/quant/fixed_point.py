"""Requantization of accumulators to 8, 16 or 32 bits: the six forms, exact, in numpy.

Each multiplies by an effective factor per channel, or divides:

* NARROW  t = sat16((acc + 2^(shift-1)) >> shift);  q = zero_point + ((t * m + 2^14) >> 15),
          with 257 <= m < 2^15, so the effective multiplier is m * 2^-(shift + 15).
* WIDE    q = zero_point + ((acc * m + 2^(shift-1)) >> shift), m in Q31, 64-bit product, half up.
* TFLITE  RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(acc << left, m), right): gemmlowp's
          double rounding; `shift` is TFLite's exponent, positive to the left.
* ONNX    float32 product rounded half to even; `multiplier` holds the bits of the float32.
* AWAY    q = zero_point + sign(acc) * ((|acc| * m + 2^(shift-1)) >> shift): half away from zero;
          m has 46 bits, so multipliers are i64, and 16 <= shift <= 77.
* QUOTIENT  q = zero_point + acc / m, m > 0, rounded half away from zero; the shift is 0.

Every form saturates the result to [qmin, qmax]. Accumulators have 32 bits, and up to 40 bits before
a WIDE requantize of 16-bit operands, whose m then has fewer (`wide_multiplier_bits`): no product
leaves 64 bits; of operands of 32 bits they have up to 47. Results of 16 or 32 bits are WIDE.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.qparams import INTEGERS, integer_range

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
Multiplier = I32 | I64

INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)


class Form(enum.Enum):
    """How an accumulator becomes an activation."""

    NARROW = "narrow"
    WIDE = "wide"
    TFLITE = "tflite"
    AWAY = "away"
    ONNX = "onnx"
    QUOTIENT = "quotient"


@dataclass(frozen=True)
class Requantize:
    """The epilogue's constants that do not vary with the channel; `bits` of the result."""

    form: Form
    zero_point: int
    qmin: int = -128
    qmax: int = 127
    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in INTEGERS:
            raise ValueError(f"a result of {self.bits} bits; expected 8, 16 or 32")
        low, high = integer_range(self.bits)
        if not low <= self.qmin <= self.qmax <= high:
            raise ValueError(f"saturation [{self.qmin}, {self.qmax}] is not within i{self.bits}")
        if not low <= self.zero_point <= high:
            raise ValueError(f"zero_point {self.zero_point} is not an i{self.bits}")


def requantize(acc: I64, multiplier: Multiplier, shift: I32, q: Requantize) -> NDArray[np.integer]:
    """acc [..., C] to i8, i16 or i32; multiplier and shift [C] or [1]."""
    scaled = rescaled(acc.astype(np.int64), multiplier, shift, q.form)
    saturated = np.clip(scaled + q.zero_point, q.qmin, q.qmax)
    result: NDArray[np.integer] = saturated.astype(INTEGERS[q.bits])
    return result


def rescaled(acc: I64, multiplier: Multiplier, shift: I32, form: Form) -> I64:
    """The accumulators times the factor, as the form rounds them; not saturated."""
    return _SCALE[form](acc, multiplier.astype(np.int64), shift.astype(np.int64))


def saturate_i16(x: I64) -> I64:
    return np.asarray(np.clip(x, -(2**15), 2**15 - 1), np.int64)


def rounding_shift(x: I64, shift: I64 | int) -> I64:
    """x / 2^shift, half up; shift >= 0."""
    shift = np.asarray(shift, np.int64)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    return np.asarray((x + half) >> shift, np.int64)


def mulhrs(a: I64, b: I64 | int) -> I64:
    """16-bit rounding high product (pmulhrsw, sqrdmulh without its one saturating case)."""
    return np.asarray((a * b + (1 << 14)) >> 15, np.int64)


def _scale_narrow(acc: I64, multiplier: I64, shift: I64) -> I64:
    return mulhrs(saturate_i16(rounding_shift(acc, shift)), multiplier)


def _scale_wide(acc: I64, multiplier: I64, shift: I64) -> I64:
    return rounding_shift(acc * multiplier, shift)


WIDE_BITS = 31  # of m, for accumulators of 32 bits
AWAY_BITS = 46  # of m
AWAY_LOW_BITS = AWAY_BITS - WIDE_BITS  # which are multiplied by themselves, and lose their fraction


def _scale_away(acc: I64, multiplier: I64, shift: I64) -> I64:
    """(x * 2^15 + y) >> s is (x + (y >> 15)) >> (s - 15), and nothing leaves 64 bits."""
    size = np.abs(acc)
    low = size * (multiplier & ((1 << AWAY_LOW_BITS) - 1)) >> AWAY_LOW_BITS
    high = size * (multiplier >> AWAY_LOW_BITS)
    return np.asarray(np.sign(acc) * rounding_shift(high + low, shift - AWAY_LOW_BITS), np.int64)


def saturating_rounding_doubling_high_mul(a: I64, b: I64 | int) -> I64:
    """gemmlowp fixedpoint.h; ties go up, C division truncates."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    quotient = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.asarray(np.where((a == INT32_MIN) & (b == INT32_MIN), INT32_MAX, quotient), np.int64)


def rounding_divide_by_pot(x: I64, exponent: I64 | int) -> I64:
    """gemmlowp fixedpoint.h; ties go away from zero."""
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    return np.asarray((x >> exponent) + (remainder > threshold), np.int64)


def _scale_tflite(acc: I64, multiplier: I64, shift: I64) -> I64:
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    shifted = np.asarray(acc << left).astype(np.int32).astype(np.int64)
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(shifted, multiplier), right)


def _scale_onnx(acc: I64, multiplier: I64, shift: I64) -> I64:
    real = multiplier.astype(np.int32).view(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.rint(acc.astype(np.float32) * real)
    return np.asarray(np.clip(scaled, -1024.0, 1024.0), np.int64)


def _scale_quotient(acc: I64, multiplier: I64, shift: I64) -> I64:
    """The quotient by 0, which no accumulator but 0 meets, is 0."""
    size = np.abs(acc)
    return np.asarray(np.sign(acc) * ((2 * size + multiplier) // np.maximum(2 * multiplier, 1)))


_SCALE = {
    Form.NARROW: _scale_narrow,
    Form.WIDE: _scale_wide,
    Form.TFLITE: _scale_tflite,
    Form.AWAY: _scale_away,
    Form.ONNX: _scale_onnx,
    Form.QUOTIENT: _scale_quotient,
}


def multiplier_wide(real: float, bits: int = WIDE_BITS, most: int = 62) -> tuple[int, int]:
    """(m, shift) with real ~ m * 2^-shift for WIDE, m < 2^bits, 1 <= shift <= most.

    m has all its bits where real >= 2^(bits - 63), which is 2^-32 for 31 of them; a smaller factor
    makes every accumulator zero, and so does what is left of m. A factor of 2^(bits - 1) or more
    can't be reached.
    """
    _expect_positive(real)
    mantissa, exponent = math.frexp(real)
    m = round(mantissa * 2**bits)
    if m == 2**bits:
        m, exponent = m // 2, exponent + 1
    shift = bits - exponent
    if shift > most:
        return m >> min(shift - most, bits), most
    if shift < 1:
        raise ValueError(f"multiplier {real} is too large; expected less than 2^{bits - 1}")
    return m, shift


def wide_multiplier_bits(largest: int) -> int:
    """The bits of m for which no |acc| <= largest makes the WIDE product leave 64 bits.

    |acc| * m < 2^62 and the rounding is at most 2^61, so their sum is below 2^63.
    """
    return min(WIDE_BITS, 62 - largest.bit_length())


NARROW_BITS = 10  # DESIGN section 3.1: enough bits of m, and the most fraction bits of t


def multiplier_narrow(real: float) -> tuple[int, int] | None:
    """(m, shift) nearest to real = m * 2^-(shift + 15) for NARROW, within 2^-10 of it.

    m has 10 bits; from 2^-5 on, where the shift is 0, up to 15. None for a factor that rounds to 1
    or above, or is below 2^-36, where no shift in [0, 30] reaches.
    """
    _expect_positive(real)
    _, exponent = math.frexp(real)
    shift = max(NARROW_BITS - exponent - 15, 0)
    m = round(math.ldexp(real, shift + 15))
    if m == 2**NARROW_BITS and shift > 0:
        m, shift = m // 2, shift - 1
    return (m, shift) if m < 2**15 and shift <= 30 else None


def nearest_narrow(real: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `multiplier_narrow` makes of each positive factor, m * 2^-(shift + 15); NaN for None."""
    _, exponent = np.frexp(real)
    places = np.maximum(NARROW_BITS - exponent, 15)
    m = np.rint(np.ldexp(real, places))  # half to even, as round does
    fits = (m < 2**15) & ((places <= 45) | ((places == 46) & (m == 2**NARROW_BITS)))
    return np.where(fits, np.ldexp(m, -places), np.nan)


def multiplier_tflite(real: float) -> tuple[int, int]:
    """TFLite's QuantizeMultiplier: (q31, exponent), positive exponent shifts left."""
    if real == 0.0:
        return 0, 0
    _expect_positive(real)
    mantissa, exponent = math.frexp(real)
    q31 = math.floor(mantissa * 2**31 + 0.5)
    if q31 == 2**31:
        q31, exponent = q31 // 2, exponent + 1
    if exponent < -31:
        return 0, 0
    if exponent > 30:
        raise ValueError(f"multiplier {real} is too large; expected less than 2^30")
    return q31, exponent


def multiplier_onnx(real: float) -> tuple[int, int]:
    """The bits of the float32 multiplier, as ONNX Runtime uses it."""
    if not 0 <= real <= float(np.finfo(np.float32).max):
        raise ValueError(f"multiplier must be a finite float32, not {real}")
    return int(np.float32(real).view(np.int32)), 0


def _expect_positive(real: float) -> None:
    if not (math.isfinite(real) and real > 0):
        raise ValueError(f"multiplier must be positive and finite, not {real}")
