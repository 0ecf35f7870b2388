"""Weights of 4, 2 and 1 bits: steps that share bytes.

8 / bits steps, one after the other, share a row of bytes: step j has bits [j * bits, (j+1) * bits)
of each, in two's complement; of 1 bit it is the sign of -1 and +1. A kernel shifts them to the top
of the byte and clears what is below (emit/codes.py), so that it multiplies by a power of two times
the weight. The sums are 2^`gain` times the true ones, which the layer's parameters undo
(lower/weight_bits.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGN_STEP = 0x40  # what a weight of 1 bit is with its sign: -64 or 64
SCRATCH = 64 << 10  # bytes of the stack that the unpacked weights of a block may take


def gain(bits: int) -> int:
    """Binary logarithm of what weights are multiplied by."""
    return 6 if bits == 1 else 8 - bits


def unpacking(bits: int) -> float:
    """Instructions that take one step's vector of weights out of a row, on average."""
    steps = 8 // bits
    shifts_and_masks = (2 * steps - 1) / steps if steps > 1 else 0.0
    return shifts_and_masks + (bits == 1)


def in_rows(steps: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """[..., step, byte] to [..., row, byte]; what a row has beyond the steps is 0."""
    together = 8 // bits
    *outer, count, width = steps.shape
    rows = -(-count // together)
    codes = np.zeros((*outer, rows * together, width), np.uint8)
    codes[..., :count, :] = (steps < 0) if bits == 1 else steps.view(np.uint8) & (2**bits - 1)
    apart = codes.reshape(*outer, rows, together, width)
    places = bits * np.arange(together, dtype=np.uint8)[:, None]
    shared: NDArray[np.uint8] = np.bitwise_or.reduce(apart << places, axis=-2)
    return shared.view(np.int8)


def multiplied(rows: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """What kernels multiply by: [..., row, byte] to 2^gain * [..., step, byte], rows filled up."""
    together = 8 // bits
    *outer, count, width = rows.shape
    up = (8 - bits - bits * np.arange(together, dtype=np.uint8))[:, None]
    top = (rows.view(np.uint8)[..., None, :] << up) & np.uint8(256 - 2 ** (8 - bits))
    if bits == 1:
        top |= np.uint8(SIGN_STEP)
    return top.view(np.int8).reshape(*outer, count * together, width)
