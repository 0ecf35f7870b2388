"""Tables of functions of an i32, of a number of entries for each octave: the constants of the
integer op InterpolateOctaves.

A logarithm, a root, a power or a reciprocal bends alike in every octave, so that so many entries
for each are as exact at the smallest operands as at the largest, which equal steps never are. The
fewest are taken for which interpolation, looked at in eighths of every interval, is off by at most
a step of the result, a sixteenth of one of 8 bits, and of one of 32 bits by 2^-17 of the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32
from qcomp.quant.interpolation import FRACTION_BITS, LARGEST_ENTRY
from qcomp.quant.qparams import QParams

F64 = NDArray[np.float64]

OCTAVES = 32
FINEST = 8
_COARSEST = 3
_PARTS = 8  # of an interval, at whose ends the error is looked at
_TOLERANCE: Mapping[int, float] = {8: 1 / 16, 16: 1.0, 32: 1.0}  # in steps of the result
_RELATIVE = 2.0**-17  # of the value, where the result has 32 bits


def entries_of(step_bits: int) -> int:
    """Of one side."""
    return (OCTAVES << step_bits) + 1


def sides_of(size: int, step_bits: int) -> int | None:
    """Whether a table is of the positive numbers, 1, or of the negative too, 2."""
    return {1 + n * entries_of(step_bits): n for n in (1, 2)}.get(size)


def fraction_bits(bits: int) -> int:
    """Of an entry, below one step of a result of so many bits."""
    return 0 if bits == 32 else FRACTION_BITS


def octaves_table(function: Callable[[F64], F64], x: QParams, y: QParams) -> tuple[int, I32]:
    """(step_bits, table) of a function in float64, each entry rounded once, half to even.

    Infinities saturate. NaN, the function outside of its domain, is 0; a function of no negative
    number, as a logarithm or a root, has one side, and takes them for 0.
    """
    with np.errstate(all="ignore"):
        signed = not np.isnan(function(-x.scale * _nodes(0))).all()
    for step_bits in range(_COARSEST, FINEST + 1):
        table = _table(function, x, y, step_bits, signed=signed)
        if step_bits == FINEST or _is_close(function, x, y, step_bits, table):
            break
    return step_bits, table.astype(np.int32)


def _table(
    function: Callable[[F64], F64], x: QParams, y: QParams, step_bits: int, *, signed: bool
) -> F64:
    side = _nodes(step_bits)
    nodes = np.concatenate([np.zeros(1), side, *([-side] if signed else [])])
    bits = fraction_bits(y.bits)
    largest = LARGEST_ENTRY if bits else 2**31 - 1
    steps = _steps(function, nodes, x, y) * 2**bits
    entries: F64 = np.rint(np.clip(steps, -largest, largest))
    return entries


def _nodes(step_bits: int, parts: int = 1) -> F64:
    """Of one side; each interval in so many parts."""
    each = parts << step_bits
    at = np.arange(OCTAVES * each + 1)
    return np.asarray(np.ldexp(1.0 + (at % each) / each, at // each), np.float64)


def _steps(function: Callable[[F64], F64], integers: F64, x: QParams, y: QParams) -> F64:
    """The function of integers of x, in steps of y."""
    with np.errstate(all="ignore"):
        real: F64 = np.asarray(function(x.scale * integers), np.float64) / y.scale
    real[np.isnan(real)] = 0.0
    return real


def _is_close(
    function: Callable[[F64], F64], x: QParams, y: QParams, step_bits: int, table: F64
) -> bool:
    """Whether saturated values are within the tolerance."""
    low, high = y.qmin - y.zero_point, y.qmax - y.zero_point
    count = entries_of(step_bits)
    between = _nodes(step_bits, _PARTS)
    reached = between < 2**31
    at = np.arange(len(between)) / _PARTS
    for sign, side in zip((1, -1), (table[1 : 1 + count], table[1 + count :]), strict=True):
        if not len(side):
            continue
        found = np.interp(at, np.arange(count), side) / 2 ** fraction_bits(y.bits)
        exact = np.clip(_steps(function, sign * between, x, y), low, high)
        error = np.abs(np.clip(found, low, high) - exact)
        allowed = _TOLERANCE[y.bits] + (_RELATIVE * np.abs(exact) if y.bits == 32 else 0.0)
        if bool((error > allowed)[reached].any()):
            return False
    return True
