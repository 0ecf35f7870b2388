"""Weights of few bits as bytes, and how few they are.

A stream of codes of `bits` bits each, the first in the lowest bits of the first byte. The code of q
is q + largest(bits), of 1 bit it is 0 for -1 and 1 for +1. So 4 bits are two to a byte, 2 bits
(ternary) four, 1 bit eight, and 3 bits eight to three bytes. Unused bits at the end are 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.grid import largest


def pack(q: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """The integers of a grid of 1 to 8 bits as bytes; ValueError for one that is not on it."""
    limit = largest(bits)
    on_grid = np.abs(q) == 1 if bits == 1 else np.abs(q) <= limit
    if not on_grid.all():
        raise ValueError(f"{int(q[~on_grid][0])} is not an integer of {bits} bits")
    codes = q > 0 if bits == 1 else q + limit
    columns = (codes.astype(np.uint8).reshape(-1, 1) >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(columns.astype(np.uint8), bitorder="little")


def unpack(data: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """The integers that `pack` was given; ValueError where the bytes are too many or too few."""
    count = math.prod(shape)
    if data.size != -(-count * bits // 8):
        raise ValueError(f"{data.size} bytes are not {count} integers of {bits} bits")
    columns = np.unpackbits(data, count=count * bits, bitorder="little").reshape(-1, bits)
    weights = np.left_shift(1, np.arange(bits))
    codes = columns.astype(np.int64) @ weights
    q = 2 * codes - 1 if bits == 1 else codes - largest(bits)
    return q.astype(np.int8).reshape(shape)


def fewest_bits(q: NDArray[np.integer]) -> int:
    """The width of the smallest grid that has all these integers, of 1, 2, 3, 4 and 8 bits."""
    peak = max(int(q.max(initial=0)), -int(q.min(initial=0)))
    if (q != 0).all() and peak <= 1:
        return 1
    return next((bits for bits in (2, 3, 4) if peak <= largest(bits)), 8)


def powers_of_two(q: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """Of each channel of [O, ...], the largest n up to `most` whose 2^n divides all integers."""
    together = np.bitwise_or.reduce(q.reshape(len(q), -1), axis=1).astype(np.int64)
    lowest = np.where(together == 0, 1, together & -together)
    return np.minimum(np.log2(lowest).astype(np.int64), most)
