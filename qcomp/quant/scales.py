"""Scales of symmetric grids for the rows of a matrix: by their peaks, or by least squared error.

For a given rounding q of a row w the best scale is <w, q> / <q, q>, which leaves the squared error
<w, w> - <w, q>^2 / <q, q>; for a given scale the best rounding is the nearest one. So the search
takes the nearest rounding of many candidates, keeps the one that leaves the least error, and
alternates the two steps from there (Lloyd's algorithm) until they agree. It gives

* 1 bit: mean|w| (Rastegari et al., XNOR-Net, ECCV 2016, section 3.1);
* 2 bits: the mean of those |w| above half of it (Li et al., Ternary Weight Networks, 2016, eq. 5);
* more bits: the range with the least error, where clipping the few largest weights pays.

Powers of two are tried as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.grid import largest, nearest

F64 = NDArray[np.float64]

_FACTORS = (2.0, 0.04)  # of the scale that the peak asks for, from the largest candidate on
_CANDIDATES = 128
_MOST = 1024  # for short rows, whose error jumps with the scale
_TRIED = 2**15
_REFINEMENTS = 10
_POWERS = 12
_TOGETHER = 1 << 14  # weights
_HOPELESS = 16.0  # times the least error so far


def minmax_scales(rows: F64, bits: int) -> F64:
    """max|w| over the largest q; f64 [R] for rows [R, K], 0 for a row of zeros."""
    return np.asarray(np.abs(rows).max(axis=1, initial=0.0) / largest(bits))


def mse_scales(rows: F64, bits: int, *, power_of_two: bool = False) -> F64:
    """The scales of least squared error; f64 [R] for rows [R, K], 0 for a row of zeros.

    Some rows at a time, which the nearest caches hold through all candidates.
    """
    step = max(_TOGETHER // max(rows.shape[1], 1), 1)
    parts = [rows[i : i + step] for i in range(0, len(rows), step)]
    found = [_mse_scales(part, bits, power_of_two=power_of_two) for part in parts]
    return np.concatenate(found) if found else np.zeros(0)


def _mse_scales(rows: F64, bits: int, *, power_of_two: bool) -> F64:
    peaks = minmax_scales(rows, bits)
    if power_of_two:
        return _least_error(rows, bits, pow2_above(peaks))
    fewest = _CANDIDATES if bits <= 4 else _CANDIDATES // 4  # of many bits any scale will do
    count = int(np.clip(_TRIED // max(rows.shape[1], 1), fewest, _MOST))
    scales, best = peaks, np.full(len(rows), -1.0)
    powers = np.einsum("rk,rk->r", rows, rows)
    reach = np.square(peaks * largest(bits))
    for factor in (1.0, *np.geomspace(*_FACTORS, count)):
        # What the peak alone loses by a clip grows from here on, and other weights pay little back.
        if factor < 1.0 and (reach * (1.0 - factor) ** 2 > _HOPELESS * (powers - best)).all():
            break
        refined, explained = _refined(rows, bits, peaks * factor)
        scales = np.where(explained > best, refined, scales)
        best = np.maximum(explained, best)
    for _ in range(_REFINEMENTS):
        scales, _ = _refined(rows, bits, scales)
    return scales


def pow2_above(scales: F64) -> F64:
    """The least power of two at or above each scale; 0 stays 0."""
    mantissa, exponent = np.frexp(scales)
    above = np.ldexp(1.0, exponent - (mantissa == 0.5))
    return np.asarray(np.where(scales > 0, above, 0.0))


def squared_error(rows: F64, bits: int, scales: F64) -> F64:
    """Sum of (w - scale * q)^2 of each row; scale 0 rounds to 0."""
    rounded = _nearest(rows, bits, scales) * scales[:, None]
    return np.asarray(np.square(rows - rounded).sum(axis=1))


def _least_error(rows: F64, bits: int, powers: F64) -> F64:
    best, least = powers, np.full(len(rows), np.inf)
    for exponent in range(_POWERS):
        scales = np.ldexp(powers, -exponent)
        error = squared_error(rows, bits, scales)
        best = np.where(error < least, scales, best)
        least = np.minimum(error, least)
    return best


def _refined(rows: F64, bits: int, scales: F64) -> tuple[F64, F64]:
    """The best scales for the nearest roundings to the given ones, and <w, q>^2 / <q, q>."""
    q = _nearest(rows, bits, scales)
    along, energy = np.einsum("rk,rk->r", rows, q), np.einsum("rk,rk->r", q, q)
    refined = np.divide(along, energy, out=scales.copy(), where=energy > 0)
    return refined, refined * along


def _nearest(rows: F64, bits: int, scales: F64) -> F64:
    return nearest(rows / np.where(scales > 0, scales, 1.0)[:, None], bits)
