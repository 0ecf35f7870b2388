"""Numbers of recurrent layers in integers: products of the state, curves of the gates, factors.

MID18, which products with the hidden state are scaled by, has 32 bits everywhere and a result of 18
bits, of which a sum of terms saturates to 16 in the end:

    t = sat20(rounding_shift(acc << left, k));  rounding_shift(t * m, 13),  0 <= m < 2^12
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32, I64, rounding_shift

F64 = NDArray[np.float64]

MID_BITS = 12  # of m
MID_SHIFT = 13
MID_REACH = 2**19  # of t, in magnitude
MOST_SHIFT = 30

CELL_BITS = 20
"""Fraction bits of cell states, and of the states of a GRU whose activations are bounded."""
LARGEST_STATE = 2**30  # in magnitude

STEP_BITS = 6  # of a curve's inputs between two entries
ENTRIES = 2 ** (16 - STEP_BITS) + 1
ENTRY_BITS = 7  # of an entry, below a step of the curve's values
VALUE_BITS = 15  # of a value in [-1, 1]


@dataclass(frozen=True)
class Factor:
    """multiplier * 2^-shift."""

    multiplier: int
    shift: int

    def of(self, x: I64) -> I64:
        return rounding_shift(x * self.multiplier, self.shift)


def mid_scaled(acc: I64, multiplier: I32, shift: I32, left: int) -> I64:
    """Sums [..., C] by their factors [C], in MID18."""
    t = np.clip(rounding_shift(acc << left, shift.astype(np.int64)), -MID_REACH, MID_REACH - 1)
    return rounding_shift(t * multiplier.astype(np.int64), MID_SHIFT)


def mid_constants(real: F64) -> tuple[I32, I32, int]:
    """(m, k) for each positive factor, and `left` for all: real ~ m * 2^(left - k - 13)."""
    mantissa, exponent = np.frexp(np.maximum(real, 2.0**-60))
    m = np.rint(np.ldexp(mantissa, MID_BITS)).astype(np.int64)
    exponent = exponent + (m == 2**MID_BITS)
    m = np.where(m == 2**MID_BITS, m // 2, m)
    k = MID_BITS - MID_SHIFT - exponent
    left = max(0, -int(k.min()))
    k = k + left
    beyond = np.clip(k - MOST_SHIFT, 0, MID_BITS)
    return (m >> beyond).astype(np.int32), np.minimum(k, MOST_SHIFT).astype(np.int32), left


def peephole_constants(real: F64) -> tuple[I32, I32]:
    """(m, s) with |m| < 2^11 and real ~ m * 2^-s, 0 <= s <= 30."""
    _, exponent = np.frexp(real)
    shift = np.clip(MID_BITS - 1 - exponent, 0, MOST_SHIFT)
    most = 2 ** (MID_BITS - 1) - 1
    m = np.clip(np.rint(np.ldexp(real, shift)), -most, most)
    return m.astype(np.int32), shift.astype(np.int32)


def curve(function: Callable[[F64], F64], sum_bits: int) -> tuple[I32, int]:
    """(entries, fraction bits of the values) of a function of sums of so many fraction bits.

    Entry i [1025] is the function at (i - 512) * 2^6 steps, in units of 2^-7 steps of a value, less
    half of what the chords beside it are off in their middle: so they are as much too high at their
    ends as they are too low there.
    """
    half = 2.0 ** (STEP_BITS - 1 - sum_bits)
    real = np.asarray(function((np.arange(2 * ENTRIES - 1) - (ENTRIES - 1)) * half), np.float64)
    largest = float(np.abs(real).max())
    if not math.isfinite(largest):
        raise ValueError("an activation that is infinite within the range of its sums")
    bits = VALUE_BITS - max(0, math.ceil(math.log2(max(largest, 1.0))))
    at, middle = real[::2], real[1::2]
    off = (at[:-1] + at[1:]) / 2 - middle
    off = np.concatenate([off[:1], (off[:-1] + off[1:]) / 2, off[-1:]])
    return np.rint(np.ldexp(at - off / 2, bits + ENTRY_BITS)).astype(np.int32), bits


def on_curve(entries: I32, u: I64) -> I64:
    """The values for sums within i16; everything fits i32."""
    i, r = (u >> STEP_BITS) + ENTRIES // 2, u & ((1 << STEP_BITS) - 1)
    low, high = entries.astype(np.int64)[i], entries.astype(np.int64)[i + 1]
    return rounding_shift((low << STEP_BITS) + (high - low) * r, STEP_BITS + ENTRY_BITS)
