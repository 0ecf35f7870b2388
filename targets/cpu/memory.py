"""The memory plan: which bytes of the arena hold which tensor, and when.

Buffers that a convolution reads with padding carry a border (halo) that is filled with the zero
point before the producer writes the interior, so kernels never check bounds. Vector loads may run
past a buffer's end by at most SLACK bytes, which belong to the buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SLACK = 64
ALIGN = 64


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


@dataclass(frozen=True)
class Lifetime:
    """A buffer's size and the first and last step that touch it."""

    name: str
    bytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets of the buffers and the size of the arena; `lower_bound` is the largest live sum."""

    offsets: Mapping[str, int]
    arena_bytes: int
    lower_bound: int


def plan_memory(lifetimes: Sequence[Lifetime], *, tries: int = 200) -> MemoryPlan:
    """Best-fit offsets, searched over orders of placement: by size, by time, seeded shuffles."""
    padded = [Lifetime(t.name, _aligned(t.bytes), t.first, t.last) for t in lifetimes]
    bound = max(
        (sum(t.bytes for t in padded if t.first <= s.first <= t.last) for s in padded), default=0
    )
    orders = [
        sorted(padded, key=lambda t: (-t.bytes, t.first)),
        sorted(padded, key=lambda t: (t.first, -t.bytes)),
        sorted(padded, key=lambda t: (-t.bytes * (t.last - t.first + 1), t.first)),
    ]
    best = min((_place(order) for order in orders), key=lambda p: p[1])
    random = np.random.default_rng(0)
    weights = np.array([t.bytes for t in padded], np.float64)
    for _ in range(tries if len(padded) <= 400 else 0):
        if best[1] <= bound:
            break
        keys = -weights * random.uniform(0.5, 1.5, len(padded))
        candidate = _place([padded[i] for i in np.argsort(keys, kind="stable")])
        best = min(best, candidate, key=lambda p: p[1])
    return MemoryPlan(best[0], max(best[1], ALIGN), bound)


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _place(order: Sequence[Lifetime]) -> tuple[dict[str, int], int]:
    """Each buffer in turn at the lowest offset that is free all its life (smallest gap first)."""
    placed: list[tuple[int, Lifetime]] = []
    offsets: dict[str, int] = {}
    for t in order:
        busy = sorted((o, o + p.bytes) for o, p in placed if p.overlaps(t))
        best_gap, best_offset, end = None, 0, 0
        for start, stop in busy:
            gap = start - end
            if gap >= t.bytes and (best_gap is None or gap < best_gap):
                best_gap, best_offset = gap, end
            end = max(end, stop)
        offset = best_offset if best_gap is not None else end
        offsets[t.name] = offset
        placed.append((offset, t))
    return offsets, max((o + t.bytes for o, t in placed), default=0)
