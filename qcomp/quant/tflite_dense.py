"""The dense layer of LiteRT's reference kernels in integers.

The kernel multiplies each accumulator by a float64 and rounds half away from zero. The form AWAY is
that to the bit, once a multiplier has been checked against every accumulator that is next to a
place where the result takes a step; a neighbour of the nearest multiplier mends most that fail.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I64, Form, multiplier_wide, rescaled

F64 = NDArray[np.float64]

_STEPS = np.arange(256) + 0.5  # an 8-bit result saturates beyond them, wherever its zero point is
_NEXT = np.arange(-1, 3)  # accumulators around a step
_NEIGHBOURS = [0, *(n for k in range(1, 65) for n in (k, -k))]


def away_multiplier(real: float, largest: int) -> tuple[int, int]:
    """(m, shift) of AWAY that rounds every |acc| <= largest to 8 bits as LiteRT does.

    Both roundings are odd in acc and never fall with it. ValueError where no multiplier is found.
    """
    m, shift = multiplier_wide(real)
    around = (np.floor(_STEPS / real)[:, None] + _NEXT).reshape(-1)
    acc = around[(around >= 0) & (around <= largest)].astype(np.int64)
    wanted = rounded_product(acc, real)
    for by in _NEIGHBOURS:
        found = rescaled(acc, np.array(m + by), np.array(shift), Form.AWAY)
        if 0 <= m + by < 2**31 and np.array_equal(found, wanted):
            return m + by, shift
    raise ValueError(f"no multiplier of 31 bits rounds as the float64 {real!r} does")


def rounded_product(acc: I64, real: float) -> I64:
    """What the reference computes: the product in float64, half away from zero."""
    product = acc.astype(np.float64) * real
    whole = np.trunc(product)
    return np.asarray(whole + np.copysign(np.abs(product - whole) >= 0.5, product), np.int64)
