"""Compile-time constants of QNormalize, each free of overflow.

`sx`, `sy` are the scales of operand and result, `count` is the number of values of a group. With
z = d * sqrt(count) / sqrt(V) the result is gamma * z + beta, and w = 2^precision * z / sqrt(count).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32
from qcomp.quant.qparams import QParams

F64 = NDArray[np.float64]

MOST_FRACTION_BITS = 8  # of d: a mean within 2^-9 of a step is as good as exact
_SUM_BITS = 62
_W_LIMIT = 32767.5  # R is 2^14 at least, so t is at most twice as large, and below 2^16
_MOST_PRECISION = 23  # beside 8 fraction bits a shift to the left stays below 32
_GAMMA_LIMIT, _BETA_LIMIT = 2**14, 2**30
_MOST_SHIFT = 29
_MEAN_BITS = 62


@dataclass(frozen=True)
class PowerConstants:
    """The fields of QNormalize that V is computed with."""

    fraction_bits: int
    mean_multiplier: int
    mean_shift: int
    added: int
    least: int


def power_constants(
    x: QParams, count: int, *, epsilon: float, least: float, centered: bool
) -> PowerConstants:
    """fraction_bits as many as leave V below 2^63; ValueError where epsilon alone is more.

    |d| < 2^(bits + fraction_bits), so that the squares are below 2^62 together. Sums of squares and
    epsilon are in units of (sx / 2^fraction_bits)^2, which is as many times finer as there are.
    """
    room = (_SUM_BITS - (count - 1).bit_length()) // 2 - x.bits
    if room < 0:
        raise ValueError(f"groups of {count} values of {x.bits} bits; their squares leave 62 bits")
    for f in range(min(MOST_FRACTION_BITS, room), -1, -1):
        unit = (x.scale / 2.0**f) ** 2
        added, lowest = (round(count * v / unit) for v in (epsilon, least))
        if max(added, lowest) < 2 ** (_SUM_BITS - 1):
            multiplier, shift = _mean(x, count, f) if centered else (0, 0)
            return PowerConstants(f, multiplier, shift, added, max(lowest, 1))
    raise ValueError(
        f"epsilon={epsilon:g} and least={least:g} are more than 2^61 squared steps of {x.scale:g}; "
        "expected an operand of a larger range"
    )


def _mean(x: QParams, count: int, fraction_bits: int) -> tuple[int, int]:
    """(m, s), m / 2^s = 2^fraction_bits / count: m < 2^31, and a sum times it is below 2^62."""
    largest = count << (x.bits - 1)
    for s in range(_MEAN_BITS, -1, -1):
        m = round(2.0 ** (s + fraction_bits) / count)
        if m < 2**31 and largest * m < 2**_SUM_BITS:
            return m, s
    raise AssertionError("a factor of 0 fits")


def precision_of(count: int, reach: float) -> int:
    """The most bits of w for which no |z| <= reach saturates t; |z| <= sqrt(count) always holds."""
    share = max(min(1.0, reach / math.sqrt(count)), _W_LIMIT / 2.0**_MOST_PRECISION)
    return math.floor(math.log2(_W_LIMIT / share))


def reach_within(y: QParams, gamma: F64, beta: F64, low: float, high: float) -> float:
    """The largest |z| whose gamma * z + beta is in [low, high], or in the range of y."""
    first, last = y.range
    ends = max(low, first), min(high, last)
    size, middle = np.broadcast_arrays(np.abs(gamma), beta)
    away = np.maximum(np.abs(ends[0] - middle), np.abs(ends[1] - middle))
    moved = size > 0
    return float((away[moved] / size[moved]).max(initial=0.0)) if moved.any() else 0.0


def output_constants(
    y: QParams, count: int, precision: int, gamma: F64, beta: F64
) -> tuple[NDArray[np.int16], I32, int]:
    """(gamma, beta, shift) of QNormalize, shift as large as |gamma| < 2^14, |beta| < 2^30 allow.

    |w| < 2^16, so that w * gamma + beta is below 2^30 + 2^30.
    """
    per_w = gamma * (math.sqrt(count) / 2.0**precision / y.scale)
    steps = beta / y.scale + y.zero_point
    for shift in range(_MOST_SHIFT, -1, -1):
        g = np.rint(per_w * 2.0**shift)
        b = np.rint(steps * 2.0**shift) + (1 << shift >> 1)
        if np.abs(g).max() < _GAMMA_LIMIT and np.abs(b).max() < _BETA_LIMIT:
            return g.astype(np.int16), b.astype(np.int32), shift
    raise ValueError(
        f"gamma or beta is up to {max(np.abs(per_w).max(), np.abs(steps).max()):g} steps of the "
        f"result at its scale {y.scale:g}; expected a result of a larger range"
    )
