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
    few = rows[:, np.linspace(0, rows.shape[1] - 1, _FIRST).astype(int)] if rows.size else rows
    for count in range(largest, 0, -1):
        likely = open_[_is_whole(few[open_], peaks[open_] / count)]
        if not likely.size:
            continue
        found = likely[_is_whole(rows[likely], peaks[likely] / count)]
        steps[found] = peaks[found] / count
        open_ = np.setdiff1d(open_, found, assume_unique=True)
    return steps


def _is_whole(rows: F64, steps: F64) -> NDArray[np.bool_]:
    """Whether all of a row are near multiples of its step."""
    positions = rows / steps[:, np.newaxis]
    return np.asarray((np.abs(positions - np.rint(positions)) < _CLOSE).all(axis=1))
