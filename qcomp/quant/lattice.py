"""Weights that are integers times a step already: their step, so that rounding moves none of them.

Models that were trained with quantization, or quantized by another tool, have such weights; the
largest integer of a row may be any, so their peak does not tell the step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_CLOSE = 2.0**-10  # of a step: more than float32 rounds off, far less than chance leaves
_FIRST = 4  # weights of a row that are looked at first


def lattice_steps(rows: F64, largest: int) -> F64:
    """The step of each row of [R, K] that has one; nan for the others, and for rows of zeros.

    All weights of such a row are multiples of the step, up to `largest` of it. Of several steps the
    finest one is given, for which the largest multiple is nearest to `largest`.
    """
    peaks = np.abs(rows).max(axis=1, initial=0.0)
    steps = np.full(len(rows), np.nan)
    open_ = np.flatnonzero(peaks > 0)
    if not rows.size:
        return steps
    few = rows[:, np.linspace(0, rows.shape[1] - 1, _FIRST).astype(int)]
    counts = np.arange(largest, 0, -1)
    likely = _near_multiples(few[:, :1], peaks[:, np.newaxis] / counts)  # by one weight; few are
    for count, by_one in zip(counts, likely.T, strict=True):
        found = open_[by_one[open_]]
        for looked_at in (few, rows):
            if found.size:
                step = peaks[found] / count
                found = found[_near_multiples(looked_at[found], step[:, np.newaxis]).all(axis=1)]
        if found.size:
            steps[found] = peaks[found] / count
            open_ = np.setdiff1d(open_, found, assume_unique=True)
    return steps


def _near_multiples(values: F64, steps: F64) -> NDArray[np.bool_]:
    """Which values are near multiples of their steps; of no step, none is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        positions = values / steps
        return np.asarray(np.abs(positions - np.rint(positions)) < _CLOSE)
