"""Compile-time constants of the integer elementwise and pooling ops, each free of overflow.

`sa`, `sb`, `sx` are scales of operands, `sy` that of the result. |q - zero_point| is at most 255,
32768 of an i16 and 2^31 of an i32, whose arithmetic has 64-bit lanes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32, multiplier_wide, wide_multiplier_bits

_MAX_CENTERED = 255
_MIN_FRACTION_BITS = 2
_ADD_TOLERANCE = 2.0**-8


@dataclass(frozen=True)
class Lanes:
    """Bounds of a sum's and a quotient's constants, by the lanes that compute them.

    reach: the largest |q - zero_point|.
    bits: sums are below 2^(bits - 1), so that a lane holds them.
    factor: |multipliers| are below.
    shift: the largest.
    term, term_shift: of both sides of a quotient: |n|, |d| < term, with the largest shift of d.
    """

    reach: int
    bits: int
    factor: int
    shift: int
    term: int
    term_shift: int


I32_LANES = Lanes(255, bits=32, factor=2**22, shift=30, term=2**30, term_shift=22)
I64_LANES = Lanes(32768, bits=64, factor=2**31, shift=62, term=2**61, term_shift=45)
SUM_LANES = Lanes(2**31, bits=64, factor=2**31, shift=62, term=2**61, term_shift=29)
"""Where an operand is a sum of 32 bits."""


@dataclass(frozen=True)
class AddConstants:
    """Fields of QAdd."""

    a_multiplier: int
    b_multiplier: int
    fraction_bits: int


def add_constants(sa: float, sb: float, sy: float, *, subtract: bool) -> AddConstants | None:
    """Constants of QAdd with the most fraction bits f, or None where QAddWide is needed.

    (a - za) << 7 is at most 32640 in magnitude, so a term is at most
    (32640 * |m| + 2^14) >> 15 = bound(m), and bound(ma) + bound(mb) + 2^(f-1) <= 2^15 - 1 keeps
    every partial sum within i16. A term is off by at most 1/2 (its rounding) + 255/512 (that of its
    multiplier) in units of 2^-f steps, so the result is within 1/2 + 2^(1-f) steps of the
    real sum: f >= 2 makes that one step, and lets the zero point be added within i16.
    """
    ratios = _ratio(sa, sy), _ratio(sb, sy)
    for f in range(15, _MIN_FRACTION_BITS - 1, -1):
        exact = [ratio * 2.0 ** (f + 8) for ratio in ratios]
        if max(exact) > 2**15:
            continue
        ma, mb = (round(e) for e in exact)
        if max(ma, mb) < 2**15 and _term_bound(ma) + _term_bound(mb) + 2 ** (f - 1) < 2**15:
            close = all(
                abs(m - e) < _ADD_TOLERANCE * e for m, e in zip((ma, mb), exact, strict=True)
            )
            return AddConstants(ma, -mb if subtract else mb, f) if close else None
    return None


def _term_bound(multiplier: int) -> int:
    return ((_MAX_CENTERED << 7) * multiplier + 2**14) >> 15


def add_wide_constants(
    sa: float, sb: float, sy: float, *, subtract: bool, lanes: Lanes = I32_LANES
) -> tuple[int, int, int]:
    """(ma, mb, shift) of QAddWide, shift as large as possible.

    |ma|, |mb| < 2^22 and 255 * (|ma| + |mb|) + 2^(shift-1) < 2^31, so no sum leaves i32; and so for
    other lanes.
    """
    ratios = _ratio(sa, sy), _ratio(sb, sy)
    for shift in range(lanes.shift, -1, -1):
        ma, mb = (round(math.ldexp(ratio, shift)) for ratio in ratios)
        total = lanes.reach * (ma + mb) + (2**shift >> 1)
        if max(ma, mb) < lanes.factor and total < 2 ** (lanes.bits - 1):
            return ma, -mb if subtract else mb, shift
    raise ValueError(_out_of_reach("addition", max(ratios), lanes.factor))


def mul_constants(sa: float, sb: float, sy: float, largest: int = 2**31 - 1) -> tuple[int, int]:
    """(multiplier, shift) in form WIDE of a product (QMul) or a sum of them (QMatMul).

    `largest` bounds the magnitude of what is multiplied.
    """
    _expect_scales(sa, sb, sy)
    return multiplier_wide(sa * sb / sy, wide_multiplier_bits(largest))


def sum_constants(
    sx: float, sy: float, *, divisor: int = 1, largest: int = 2**31 - 1
) -> tuple[int, int]:
    """(multiplier, shift) in form WIDE of QReduceSum; a mean divides by its number of elements.

    `largest` bounds the magnitude of the sum.
    """
    if divisor < 1:
        raise ValueError(f"a mean of {divisor} elements does not exist")
    return multiplier_wide(_ratio(sx, sy) / divisor, wide_multiplier_bits(largest))


def average_multipliers(
    sx: float, sy: float, max_count: int, largest: int = 2**31 - 1
) -> tuple[I32, int]:
    """(multiplier i32 [max_count + 1], shift) of QAveragePool2d in form WIDE, by the count.

    The count 1 has the largest multiplier, which multiplier_wide keeps below 2^31; entry 0 is 0,
    so a window that lies in the padding alone gives the zero point.
    """
    if max_count < 1:
        raise ValueError(f"a window of {max_count} elements does not exist")
    ratio = _ratio(sx, sy)
    of_one, shift = multiplier_wide(ratio, wide_multiplier_bits(largest))
    counts = np.arange(1, max_count + 1, dtype=np.float64)
    multipliers = np.minimum(np.rint(math.ldexp(ratio, shift) / counts), of_one)
    return np.concatenate([[0], multipliers]).astype(np.int32), shift


def div_constants(sa: float, sb: float, sy: float, lanes: Lanes = I32_LANES) -> tuple[int, int]:
    """(multiplier, shift) of QDiv, multiplier / 2^shift = sa / (sb * sy), multiplier >= 1.

    255 * multiplier < 2^30 and 255 << shift < 2^30, so 2|n| + |d| < 2^32 fits u32; with i16,
    32768 * multiplier < 2^61 and 32768 << shift < 2^61; with i32 so with 2^31.
    """
    _expect_scales(sa, sb, sy)
    ratio = sa / sb / sy
    for shift in range(lanes.term_shift, -1, -1):
        multiplier = max(1, round(min(math.ldexp(ratio, shift), lanes.term)))
        if lanes.reach * multiplier < lanes.term:
            return multiplier, shift
    raise ValueError(_out_of_reach("division", ratio, lanes.factor))


def prelu_constants(
    sx: float, sy: float, slopes: NDArray[np.floating], lanes: Lanes = I32_LANES
) -> tuple[int, I32, int]:
    """(positive_multiplier, negative_multiplier, shift) of QPRelu; the array is shaped as slopes.

    |multiplier| < 2^22 and shift <= 30: 255 * 2^22 + 2^29 < 2^31, so no sum leaves i32; with i16
    |multiplier| < 2^31 and shift <= 62: 32768 * 2^31 + 2^61 < 2^63.
    """
    ratio = _ratio(sx, sy)
    negative = ratio * np.asarray(slopes, np.float64)
    if not np.isfinite(negative).all():
        raise ValueError("the slopes of a PRelu must be finite")
    largest = max(ratio, float(np.abs(negative).max(initial=0.0)))
    for shift in range(lanes.shift, -1, -1):
        if round(math.ldexp(largest, shift)) < lanes.factor:
            multipliers = np.rint(np.ldexp(negative, shift)).astype(np.int32)
            return round(math.ldexp(ratio, shift)), multipliers, shift
    raise ValueError(_out_of_reach("PRelu", largest, lanes.factor))


def _ratio(scale: float, sy: float) -> float:
    _expect_scales(scale, sy)
    return scale / sy


def _expect_scales(*scales: float) -> None:
    for scale in scales:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"a scale must be positive and finite, not {scale}")


def _out_of_reach(what: str, ratio: float, limit: int) -> str:
    return (
        f"{what}: the ratio {ratio:g} of operand scale to result scale is too large for integer "
        f"arithmetic; expected less than 2^{limit.bit_length() - 1}"
    )
