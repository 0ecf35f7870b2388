"""Compile-time constants of the integer elementwise and pooling ops, each free of overflow.

`sa`, `sb`, `sx` are scales of operands, `sy` that of the result. |q - zero_point| is at most 255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32, multiplier_wide

_MAX_CENTERED = 255
_MIN_FRACTION_BITS = 2
_ADD_TOLERANCE = 2.0**-8
_WIDE_LIMIT = 2**22
_DIV_LIMIT = 2**30


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


def add_wide_constants(sa: float, sb: float, sy: float, *, subtract: bool) -> tuple[int, int, int]:
    """(ma, mb, shift) of QAddWide, shift in 0..30 as large as possible.

    |ma|, |mb| < 2^22 and 255 * (|ma| + |mb|) + 2^(shift-1) < 2^31, so no sum leaves i32.
    """
    ratios = _ratio(sa, sy), _ratio(sb, sy)
    for shift in range(30, -1, -1):
        ma, mb = (round(math.ldexp(ratio, shift)) for ratio in ratios)
        total = _MAX_CENTERED * (ma + mb) + (2**shift >> 1)
        if max(ma, mb) < _WIDE_LIMIT and total < 2**31:
            return ma, -mb if subtract else mb, shift
    raise ValueError(_out_of_reach("addition", max(ratios)))


def mul_constants(sa: float, sb: float, sy: float) -> tuple[int, int]:
    """(multiplier, shift) in form WIDE of a product of two i8 (QMul) or a sum of them (QMatMul)."""
    _expect_scales(sa, sb, sy)
    return multiplier_wide(sa * sb / sy)


def sum_constants(sx: float, sy: float, *, divisor: int = 1) -> tuple[int, int]:
    """(multiplier, shift) in form WIDE of QReduceSum; a mean divides by its number of elements."""
    if divisor < 1:
        raise ValueError(f"a mean of {divisor} elements does not exist")
    return multiplier_wide(_ratio(sx, sy) / divisor)


def average_multipliers(sx: float, sy: float, max_count: int) -> tuple[I32, int]:
    """(multiplier i32 [max_count + 1], shift) of QAveragePool2d in form WIDE, by the count.

    The count 1 has the largest multiplier, which multiplier_wide keeps below 2^31; entry 0 is 0,
    so a window that lies in the padding alone gives the zero point.
    """
    if max_count < 1:
        raise ValueError(f"a window of {max_count} elements does not exist")
    ratio = _ratio(sx, sy)
    largest, shift = multiplier_wide(ratio)
    counts = np.arange(1, max_count + 1, dtype=np.float64)
    multipliers = np.minimum(np.rint(math.ldexp(ratio, shift) / counts), largest)
    return np.concatenate([[0], multipliers]).astype(np.int32), shift


def div_constants(sa: float, sb: float, sy: float) -> tuple[int, int]:
    """(multiplier, shift) of QDiv, multiplier / 2^shift = sa / (sb * sy), multiplier >= 1.

    255 * multiplier < 2^30 and 255 << shift < 2^30, so 2|n| + |d| < 2^32 fits u32.
    """
    _expect_scales(sa, sb, sy)
    ratio = sa / sb / sy
    for shift in range(22, -1, -1):
        multiplier = max(1, round(min(math.ldexp(ratio, shift), _DIV_LIMIT)))
        if _MAX_CENTERED * multiplier < _DIV_LIMIT:
            return multiplier, shift
    raise ValueError(_out_of_reach("division", ratio))


def prelu_constants(sx: float, sy: float, slopes: NDArray[np.floating]) -> tuple[int, I32, int]:
    """(positive_multiplier, negative_multiplier, shift) of QPRelu; the array is shaped as slopes.

    |multiplier| < 2^22 and shift <= 30: 255 * 2^22 + 2^29 < 2^31, so no sum leaves i32.
    """
    ratio = _ratio(sx, sy)
    negative = ratio * np.asarray(slopes, np.float64)
    if not np.isfinite(negative).all():
        raise ValueError("the slopes of a PRelu must be finite")
    largest = max(ratio, float(np.abs(negative).max(initial=0.0)))
    for shift in range(30, -1, -1):
        if round(math.ldexp(largest, shift)) < _WIDE_LIMIT:
            multipliers = np.rint(np.ldexp(negative, shift)).astype(np.int32)
            return round(math.ldexp(ratio, shift)), multipliers, shift
    raise ValueError(_out_of_reach("PRelu", largest))


def _ratio(scale: float, sy: float) -> float:
    _expect_scales(scale, sy)
    return scale / sy


def _expect_scales(*scales: float) -> None:
    for scale in scales:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"a scale must be positive and finite, not {scale}")


def _out_of_reach(what: str, ratio: float) -> str:
    return (
        f"{what}: the ratio {ratio:g} of operand scale to result scale is too large for 32-bit "
        f"arithmetic; expected less than 2^22"
    )
