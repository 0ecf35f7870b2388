"""The memory plan: which bytes of the arena hold which buffer, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ALIGN = 64


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
    """Offsets of the buffers and the size of the arena; `lower_bound` is the largest live sum.

    lifetimes: of the buffers, with sizes as they are placed.
    """

    offsets: Mapping[str, int]
    arena_bytes: int
    lower_bound: int
    lifetimes: Sequence[Lifetime] = ()


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
    return MemoryPlan(best[0], max(best[1], ALIGN), bound, tuple(padded))


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
