"""Exact integer meaning of functions of sums of 32 bits; all arithmetic in int64."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.evaluate.integer_elementwise import saturated
from qcomp.ir.ops.base import Op
from qcomp.ir.ops.octaves import InterpolateOctaves
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import rounding_shift
from qcomp.quant.octaves import entries_of, fraction_bits, sides_of


def interpolate_octaves(op: InterpolateOctaves, x: Array, table: Array) -> Array:
    k, entries = op.step_bits, table.astype(np.int64)
    signed = sides_of(len(table), k) == 2
    value = x.astype(np.int64) if signed else np.maximum(x, 0).astype(np.int64)
    size = np.maximum(np.abs(value), 1)
    n = np.frexp(size.astype(np.float64))[1].astype(np.int64) - 1
    position = (n << 31) + ((size << (31 - n)) & (2**31 - 1))
    j = 1 + (position >> (31 - k)) + np.where(value < 0, entries_of(k), 0)
    r = (position >> (16 - k)) & (2**15 - 1)
    between = entries[j] + rounding_shift((entries[j + 1] - entries[j]) * r, 15)
    t = rounding_shift(np.where(value == 0, entries[0], between), fraction_bits(op.bits))
    return saturated(op.zero_point + t, op.qmin, op.qmax, op.bits)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    InterpolateOctaves: interpolate_octaves,
}
