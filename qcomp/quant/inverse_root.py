"""1 / sqrt(v) of 63 bits in integers: a table and one step of Newton's method in 32 bits.

With n = clz(v) // 2 the mantissa x, the top 32 bits of v << 2n, is in [2^30, 2^32). For y, the
table's inverse root of the middle of x's 1/192th, Newton's step is y * (3 - y^2 x) / 2:

    b = y^2 x >> 32,  near 2^30;    R = min(2^15 - 1, (y * (3 * 2^30 - b) + 2^31) >> 32)

R is in [2^14, 2^15) and 1 / sqrt(v) is R * 2^(n - 46). Over all 3 * 2^30 mantissas R - 2^30 *
sqrt(2^30) / (2^15 * sqrt(x)) is in (-1.25, 0.51): the middle entry's error squared, from below,
and roundings. What x loses of v, less than 2^-30 of it, is nothing beside that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32, I64

U64 = NDArray[np.uint64]

FIRST = 64  # the index of the first entry: the top 8 bits of the least mantissa
ENTRIES = 192
FRACTION_BITS = 15  # of R
EXPONENT = 46  # of 1 / sqrt(v) = R * 2^(n - EXPONENT)


def inverse_root_table() -> I32:
    """round(2^15 / sqrt(m)) of the middles m of 192 steps of 1/256 from 1/4 to 1, below 2^16."""
    middles = (np.arange(FIRST, FIRST + ENTRIES) + 0.5) / 256
    roots: I32 = np.rint(2.0**15 / np.sqrt(middles)).astype(np.int32)
    return np.minimum(roots, np.int32(2**16 - 1))


def inverse_root(v: I64, table: I32) -> tuple[I64, I64]:
    """(R, n) of 1 <= v < 2^63."""
    wide = np.asarray(v).astype(np.uint64)
    n = (64 - _bit_length(wide)) >> 1
    x = (wide << (2 * n).astype(np.uint64)) >> np.uint64(32)
    return inverse_root_of_mantissa(x, table), n


def inverse_root_of_mantissa(x: U64, table: I32) -> I64:
    """R of 2^30 <= x < 2^32; no product leaves 64 bits without a sign."""
    y = table[(x >> np.uint64(24)).astype(np.int64) - FIRST].astype(np.uint64)
    b = y * y * x >> np.uint64(32)
    step = y * (np.uint64(3 << 30) - b) + np.uint64(1 << 31)
    return np.asarray(np.minimum(step >> np.uint64(32), np.uint64(2**15 - 1)), np.int64)


def _bit_length(v: U64) -> I64:
    length, rest = np.zeros(v.shape, np.int64), v.copy()
    for step in (32, 16, 8, 4, 2, 1):
        above = rest >> np.uint64(step)
        length += np.where(above > 0, step, 0)
        rest = np.where(above > 0, above, rest)
    return length + (rest > 0)
