"""Tables of functions of an i16, to be interpolated: the constants of the integer op Interpolate.

A table has an entry at every 2^step_bits-th input and one behind the last. The fewest entries are
taken (513, as in TensorFlow Lite's int16 kernels) for which interpolation is off by at most a step
of the result, over all 65536 inputs. The bound is on the largest error and not on the mean: where
the calibrated range has outliers, nearly all values are in the few intervals next to 0, and those
are where functions bend. A function with jumps gets an entry for each input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32
from qcomp.quant.qparams import QParams

F64 = NDArray[np.float64]

FRACTION_BITS = 7  # of an entry, below one step of the result
LARGEST_ENTRY = 2**23  # in magnitude: the entries' differences times 2^7 fit i32
WIDEST_STEP = 7

# The error that is taken, in steps of a result of so many bits, before it is rounded.
_TOLERANCE: Mapping[int, float] = {8: 1 / 16, 16: 1.0}


def interpolation_table(function: Callable[[F64], F64], x: QParams, y: QParams) -> tuple[int, I32]:
    """(step_bits, table i32 [2^(16 - step_bits) + 1]), entries in units of 2^-7 steps of y.

    Entries are the function in float64, rounded once, half to even. Infinities saturate, NaN (the
    function outside its domain) is 0, as in `unary_table`.
    """
    inputs = np.arange(-(2**15), 2**15 + 1, dtype=np.float64)
    with np.errstate(all="ignore"):
        real = np.asarray(function(x.scale * inputs), np.float64) / y.scale
    real = np.nan_to_num(real, nan=0.0, posinf=np.inf, neginf=-np.inf)
    entries = np.rint(np.clip(real * 2**FRACTION_BITS, -LARGEST_ENTRY, LARGEST_ENTRY))
    for step_bits in range(WIDEST_STEP, 0, -1):
        table = entries[:: 1 << step_bits]
        if _is_close(_interpolated(table, step_bits), real[:-1], y):
            return step_bits, table.astype(np.int32)
    return 0, entries.astype(np.int32)


def _interpolated(table: F64, step_bits: int) -> F64:
    """The value at every input, in steps, before it is rounded."""
    at = np.arange(2**16) / (1 << step_bits)
    return np.asarray(np.interp(at, np.arange(len(table)), table) / 2**FRACTION_BITS)


def _is_close(found: F64, exact: F64, y: QParams) -> bool:
    """Whether saturated values are within the tolerance."""
    low, high = y.qmin - y.zero_point, y.qmax - y.zero_point
    error = np.abs(np.clip(found, low, high) - np.clip(exact, low, high))
    return float(error.max()) <= _TOLERANCE[y.bits]
