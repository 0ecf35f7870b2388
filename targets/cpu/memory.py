"""How tensors lie in the buffers of the arena.

Buffers that a convolution reads with padding carry a border (halo) that is filled with the zero
point before the producer writes the interior, so kernels never check bounds. Vector loads may run
past a buffer's end by at most SLACK bytes, which belong to the buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SLACK = 64


@dataclass(frozen=True)
class Halo:
    """Border of an NHWC tensor, in pixels."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def union(self, other: Halo) -> Halo:
        return Halo(
            max(self.top, other.top),
            max(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    @property
    def is_none(self) -> bool:
        return self == Halo()


@dataclass(frozen=True)
class Layout:
    """Where the elements of a tensor lie within its buffer."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]  # bytes
    offset: int  # of element 0
    bytes: int  # of the buffer, border included, slack not
    element: int = 1

    @property
    def is_contiguous(self) -> bool:
        return self.strides == contiguous(self.shape, self.element)


def contiguous(shape: Sequence[int], element: int = 1) -> tuple[int, ...]:
    """Row-major strides in bytes."""
    strides = []
    step = element
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def dense_layout(shape: tuple[int, ...], element: int = 1) -> Layout:
    size = int(np.prod(shape, dtype=np.int64)) * element
    return Layout(shape, contiguous(shape, element), 0, size, element)


def bordered_layout(shape: tuple[int, ...], halo: Halo, element: int = 1) -> Layout:
    """An NHWC tensor with a border around each image."""
    n, h, w, c = shape
    pixel = c * element
    row = (halo.left + w + halo.right) * pixel
    image = (halo.top + h + halo.bottom) * row
    first = halo.top * row + halo.left * pixel
    return Layout(shape, (image, row, pixel, element), first, n * image, element)
