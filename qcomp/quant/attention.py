"""Numbers of attention in integers: exponentials from tables, and a division for each row.

docs/arithmetic.md has the bounds of what these give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I64, mulhrs, rounding_shift

MOST_KEYS = 16384
MOST_DEPTH = 8192
MOST_KEYS_OF_8_BITS = 256
"""Beyond, weights of 8 bits lose the tails of long rows: what is below 1/510 of the largest."""

MASK_LIMIT = 1 << 28
"""The largest magnitude of a score, and of each of two masks that are added to it."""

EXCLUDED = -(1 << 30)
"""What a constant of scores has where it excludes a key: less than any score."""

LEAST_SHIFT = 9
"""Of products of 16 bits by 16: they are two sums, of which one is shifted by 8 and rounded."""

VALUE_BITS = {8: 16, 16: 18}
"""Of a row's sums when they meet the reciprocal, by the bits of the result."""

_STEP_BITS = {8: 5, 15: 10}  # of an octave
_MULTIPLIER_BITS = {8: 12, 15: 15}  # so that the largest difference there is gives the weight 0
_MOST_SHIFT = 30  # of the difference of two scores
_NOTHING = 16  # a shift that leaves nothing of a weight


@dataclass(frozen=True)
class ScoreConstants:
    """Fields of QAttention: a step of the scores is multiplier * 2^-(shift + 15) steps of u."""

    product_shift: int
    shift: int
    multiplier: int


def score_constants(
    step: float, probability_bits: int, *, largest: int = MASK_LIMIT - 1, least_shift: int = 0
) -> ScoreConstants:
    """`step`: of a sum of products, in nats; `largest`: the magnitude of such a sum.

    Steps so small that no difference reaches one of u count as somewhat larger ones.
    """
    _expect(step, "a score's step")
    product_shift = max(least_shift, largest.bit_length() - (MASK_LIMIT.bit_length() - 1))
    step *= 2.0**product_shift
    bits = _MULTIPLIER_BITS[probability_bits]
    factor = step / math.log(2) * 2.0 ** _STEP_BITS[probability_bits]
    mantissa, exponent = math.frexp(factor)
    multiplier = min(round(mantissa * 2.0**bits), 2**bits - 1)
    shift = bits - exponent - 15
    if shift < -15:
        raise ValueError(f"a score's step of {step:.3g} nats; expected less than 32")
    return ScoreConstants(product_shift, min(shift, _MOST_SHIFT), multiplier)


def exponential_table(keys: int, probability_bits: int) -> NDArray[np.int16]:
    """The i16 [32] or [64] of QAttention.

    Weights of 8 bits are 255 at most. Those of 15 bits add up to 2^23 at most over the keys.
    """
    f = np.arange(32, dtype=np.float64)
    if probability_bits == 8:
        return np.rint(255 * 2.0 ** (7 - f / 32)).astype(np.int16)
    coarse = np.rint(largest_weight(keys, 15) * 2.0 ** (-f / 32))
    fine = np.minimum(np.rint(2.0 ** (15 - f / 1024)), 2**15 - 1)
    return np.concatenate([coarse, fine]).astype(np.int16)


def largest_weight(keys: int, probability_bits: int) -> int:
    """Of a key: that of the largest score."""
    return 255 if probability_bits == 8 else min(2**15 - 1, 2**23 // keys)


def exponentials(
    distance: I64, shift: int, multiplier: int, table: NDArray[np.integer], probability_bits: int
) -> I64:
    """The weights of keys whose scores are so far below the largest."""
    if shift < 0:
        distance = np.minimum(distance, 2**15 - 1)  # beyond, it saturates
    u = mulhrs(np.minimum(rounded(distance, shift), 2**15 - 1), multiplier)
    entries = table.astype(np.int64)
    if probability_bits == 8:
        return rounding_shift(entries[u & 31], np.minimum((u >> 5) + 7, _NOTHING))
    product = mulhrs(entries[(u >> 5) & 31], entries[32 + (u & 31)])
    return rounding_shift(product, np.minimum(u >> 10, _NOTHING))


def sixteen_bits(values: I64) -> tuple[I64, I64]:
    """(m, j): m * 2^j is each value > 0 with 16 bits, 2^15 <= m < 2^16, rounded half up."""
    lost = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 16
    mantissa = rounded(values, lost)
    over = mantissa == 2**16
    return np.where(over, 2**15, mantissa), lost + over


def rounded(x: I64, shift: I64 | int) -> I64:
    """x / 2^shift, half up; to the left where shift is negative."""
    shift = np.asarray(shift, np.int64)
    return rounding_shift(x << np.maximum(-shift, 0), np.maximum(shift, 0))


@dataclass(frozen=True)
class ResultConstants:
    """Fields of QAttention."""

    down: int
    numerator: int
    shift: int


def result_constants(
    v_scale: float, y_scale: float, *, largest_v: int, bits: int
) -> ResultConstants:
    """The division of a row; `largest_v` is the largest |v - zero point|, `bits` of the result.

    sums / (mantissa * 2^lost) is at most largest_v, so that sat_t of it, shifted by `down` less
    than 16 + its bits, never saturates.
    """
    _expect(v_scale, "v's scale")
    _expect(y_scale, "the result's scale")
    t_bits = VALUE_BITS[bits]
    reciprocal_bits = 31 - t_bits
    down = 16 + (largest_v - 1).bit_length() - (t_bits - 1)
    ratio = v_scale / y_scale
    e = min(15 + math.floor(math.log2((2**reciprocal_bits - 1) / ratio)), down + 30)
    if e <= down:
        raise ValueError(
            f"the steps of v are {ratio:.3g} times as long as the result's; expected less than "
            f"{2.0 ** (15 + reciprocal_bits - down):.3g} times"
        )
    return ResultConstants(down, round(ratio * 2.0**e), e - down)


def _expect(scale: float, name: str) -> None:
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{name} is {scale}; expected a finite number above 0")
