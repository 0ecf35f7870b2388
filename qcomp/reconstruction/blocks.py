"""Rows that a layer reads, some samples at a time: what they give with its weights, and their sum.

Where each channel has filters of its own, the pixels of a window are multiplied where they lie, as
integers that are made floats in the caches: rows by channel would be a transposition of all taps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.sampled import Positions
from qcomp.ir.ops import Conv2d, Weighted
from qcomp.quant.qparams import QParams
from qcomp.reconstruction.rows import Read, floats_by_group, window_pixels

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_TOGETHER = 1 << 18  # values of rows that are made floats at once: what the nearest caches hold


@dataclass(frozen=True, eq=False)
class Summed:
    """Of rows [G, R, K]: how many, the sum of all [G, K], and what they give with weights
    [G, O / G, K], where that is asked for: [G, O / G, R].
    """

    count: int
    total: F64
    products: F32 | None


class Block(Protocol):
    """Rows."""

    def summed(self, weight: F32 | None) -> Summed:
        """With products, if there are weights."""
        ...


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows [G, R, K] as floats."""

    x: F32

    def summed(self, weight: F32 | None) -> Summed:
        """Products with ones sum them quickest."""
        count = self.x.shape[1]
        total = np.matmul(np.ones((1, count), np.float32), self.x)[:, 0].astype(np.float64)
        found = None if weight is None else np.matmul(weight, self.x.swapaxes(1, 2))
        return Summed(count, total, found)


@dataclass(frozen=True, eq=False)
class Taps:
    """Rows of groups of one channel, as integers [R, K, G]."""

    integers: NDArray[np.integer]
    qparams: QParams

    def summed(self, weight: F32 | None) -> Summed:
        count, taps, groups = self.integers.shape
        zero_point, scale = np.float32(self.qparams.zero_point), np.float32(self.qparams.scale)
        total = np.zeros(taps * groups)
        factors = [] if weight is None else [w * scale for w in weight.transpose(1, 2, 0)]
        each = np.empty((len(factors), count, groups), np.float32)
        step = max(_TOGETHER // (taps * groups), 1)
        for first in range(0, count, step):
            x = self.integers[first : first + step].astype(np.float32)
            x -= zero_point
            total += np.ones(len(x), np.float32) @ x.reshape(len(x), -1)
            for n, factor in enumerate(factors):
                np.einsum("rkg,kg->rg", x, factor, out=each[n, first : first + step])
        found = None if weight is None else np.ascontiguousarray(each.transpose(2, 0, 1))
        return Summed(count, total.reshape(taps, groups).T * float(scale), found)


def blocks(
    layer: Weighted, kernel: tuple[int, ...], place: Positions, inputs: Iterable[Read]
) -> Iterator[Block]:
    """The rows of a layer's operand; `kernel` is the weight's shape."""
    apart = isinstance(layer, Conv2d) and kernel[3] == 1 and layer.groups > 1
    for pixels, qparams in window_pixels(layer, kernel, place, inputs):
        if apart:
            yield Taps(pixels, qparams)
        else:
            yield Windows(floats_by_group(pixels, qparams, layer.groups))
