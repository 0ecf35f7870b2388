"""Constants of layers whose scale is found at run time, each free of overflow.

A product t of normalised values, 16 bits, and the largest value a of 16 bits, make the result

    y = (t * a + bias) >> shift,        2^-shift = s_t * s_a / s_y

so the scale of t is that of the result over that of a, times a power of two.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.qparams import QParams, integer_range

NORMALIZED = QParams(float(np.float32(1.0 / 127.0)), 0, -127, 127)
"""Of values divided by their absolute maximum."""

HEAD_ROOM = 4.0
"""How much further than in the calibration data products of normalised values may reach."""

MOST_BIAS = 2**30  # |t * a| <= 2^30, and their sum fits 32 bits
_MOST_SHIFT = 30


def reciprocal(scale: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(2^j, r) with (2^j * r) / 2^22 close to 127 / a, a = max(scale, 1): see QScaleDown."""
    a = np.maximum(scale.astype(np.int64), 1)
    power = np.ones_like(a)
    for _ in range(14):
        power = np.where(a * power < 2**14, 2 * power, power)
    m = a * power
    return power, (127 * 2**22 + m // 2) // m


def product_qparams(
    largest: float, scale: QParams, y: QParams, bias: NDArray[np.floating]
) -> QParams:
    """Of t, whose magnitude was at most `largest`: with HEAD_ROOM, or as much as the bias leaves.

    The bias may double before it is one of integers. ValueError where no shift lets it fit.
    """
    offset = float(np.abs(bias).max(initial=0.0)) / y.scale + abs(y.zero_point) + 1.0
    most = min(_MOST_SHIFT, math.floor(math.log2(MOST_BIAS / 2 / offset)))
    if most < 0:
        raise ValueError(f"a bias of {offset:.3g} steps; expected less than {MOST_BIAS}")
    step = HEAD_ROOM * largest / (2**15 - 1)
    wanted = math.floor(math.log2(y.scale / (scale.scale * step))) if step > 0.0 else most
    shift = min(max(wanted, 0), most)
    found = float(np.float32(math.ldexp(y.scale / scale.scale, -shift)))
    return QParams(found, 0, *integer_range(16))


def scale_up_constants(
    t: QParams, scale: QParams, y: QParams, bias: NDArray[np.floating]
) -> tuple[NDArray[np.int32], int]:
    """(bias, shift) of QScaleUp; ValueError where t has a scale that is not `product_qparams`."""
    exact = math.log2(y.scale / (t.scale * scale.scale))
    shift = round(exact)
    if abs(exact - shift) > 1e-5 or not 0 <= shift <= _MOST_SHIFT:
        raise ValueError(
            f"the scales of product, maximum and result make 2^-{exact:.6g}; expected 2^-0 to "
            f"2^-{_MOST_SHIFT}, a whole number"
        )
    steps = np.ldexp(bias.astype(np.float64) / y.scale + y.zero_point, shift)
    integers = np.rint(steps) + (1 << shift >> 1)
    if np.abs(integers).max(initial=0.0) > MOST_BIAS:
        raise ValueError(f"a bias of {np.abs(integers).max():.0f}; expected {MOST_BIAS} at most")
    return integers.astype(np.int32), shift
