"""Steps for groups of weights: an integer multiple of the channel's scale (two-level scales).

VS-Quant (Dai et al., MLSys 2021, section 4) gives each short vector of weights its own scale,
itself rounded to an integer times a scale of the channel:

    w ~ scale_c * e_g * q,    e_g >= 1,    e_g * q within 8 bits

so a kernel for 8-bit weights runs it as it is, and the finer steps cost it nothing. A group is
`size` neighbours of an output channel's weights in the order of OHWI or [O, I]: input channels of
one tap, where these are many. The last group of a channel has what is left.

Each group asks for the scale that suits it best alone; the largest of them takes the largest
multiplier. Then multipliers and scale are chosen in turn, each best for the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.grid import Grid, largest, nearest
from qcomp.quant.scales import minmax_scales, mse_scales, pow2_above

F64 = NDArray[np.float64]

_STORED_BITS = 8
_ROUNDS = 4


def largest_multiplier(bits: int) -> int:
    """The largest e for which every e * q is an 8-bit weight."""
    return largest(_STORED_BITS) // largest(bits)


def grouped_grid(
    weight: NDArray[np.floating],
    bits: int,
    size: int,
    most: int,
    *,
    per_channel: bool,
    least_squares: bool,
    power_of_two: bool,
) -> Grid:
    """The grid with a multiplier of 1 to `most` for each group; the scale is f64 [C] or [1].

    Without least squares no weight is clipped. A dead channel has scale 0.
    """
    rows = weight.astype(np.float64).reshape(len(weight), -1)
    whole = rows.shape[1] // size * size
    parts = [p for p in (rows[:, :whole], rows[:, whole:]) if p.size]
    parts = [p.reshape(len(rows), -1, min(size, p.shape[1])) for p in parts]
    wanted = [_own_scales(part, bits, least_squares) for part in parts]
    scales = np.max([w.max(axis=1) for w in wanted], axis=0) / most
    if not per_channel:
        scales = scales.max(keepdims=True)
    if power_of_two:
        scales = pow2_above(scales)
    chosen = [_ratio(w, scales, most, up=not least_squares) for w in wanted]
    for _ in range(_ROUNDS if least_squares else 0):
        chosen = [_nearby(p, bits, scales, e, most) for p, e in zip(parts, chosen, strict=True)]
        if not power_of_two:
            scales = _refined(parts, bits, scales, chosen)
    of_each = [np.repeat(e, p.shape[2], axis=1) for p, e in zip(parts, chosen, strict=True)]
    multiplier = np.concatenate(of_each, axis=1).reshape(weight.shape).astype(np.int8)
    return Grid(scales, bits, multiplier=multiplier)


def _own_scales(part: F64, bits: int, least_squares: bool) -> F64:
    """The scale that each group of [C, G, K] would have alone; [C, G]."""
    flat = part.reshape(-1, part.shape[2])
    found = mse_scales(flat, bits) if least_squares else minmax_scales(flat, bits)
    return found.reshape(part.shape[:2])


def _ratio(wanted: F64, scales: F64, most: int, *, up: bool) -> F64:
    ratio = wanted / _positive(scales)[:, None]
    # The largest group's quotient is `most`, give or take its rounding.
    rounded = np.ceil(ratio * (1 - 2.0**-40)) if up else np.rint(ratio)
    return np.asarray(np.clip(rounded, 1, most))


def _nearby(part: F64, bits: int, scales: F64, e: F64, most: int) -> F64:
    """Choose among e, e - 1 and e + 1 the exponent of least squared error."""
    best, least = e, np.full(e.shape, np.inf)
    for candidate in (e, np.maximum(e - 1, 1), np.minimum(e + 1, most)):
        stored = _stored(part, bits, scales, candidate)
        error = np.square(part - stored * scales[:, None, None]).sum(axis=2)
        best, least = np.where(error < least, candidate, best), np.minimum(error, least)
    return np.asarray(best)


def _refined(parts: Sequence[F64], bits: int, scales: F64, chosen: Sequence[F64]) -> F64:
    """The best scales for the integers that these scales and multipliers give."""
    stored = [_stored(p, bits, scales, e) for p, e in zip(parts, chosen, strict=True)]
    along, energy = np.zeros(len(scales)), np.zeros(len(scales))
    of_each = (len(scales), -1)
    for part, integers in zip(parts, stored, strict=True):
        along += (part * integers).reshape(of_each).sum(axis=1)
        energy += np.square(integers).reshape(of_each).sum(axis=1)
    refined: F64 = np.divide(along, energy, out=scales.copy(), where=energy > 0)
    return refined


def _stored(part: F64, bits: int, scales: F64, e: F64) -> F64:
    """e * q, the integers that kernels see."""
    multiplier = e[..., None]
    return nearest(part / (_positive(scales)[:, None, None] * multiplier), bits) * multiplier


def _positive(scales: F64) -> F64:
    return np.asarray(np.where(scales > 0, scales, 1.0))
