"""The narrow epilogue of x86: stores what `Packing` makes of four vectors of sums at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import Value, at, biased, store_bytes
from qcomp.targets.cpu.emit.narrow import BlockParameters
from qcomp.targets.cpu.x86.packing import Packing, in_order
from qcomp.targets.cpu.x86.residual import widened_pair, widened_row


class PackedEpilogue:
    """Five instructions on packed 16-bit lanes."""

    def __init__(self, block: BlockParameters) -> None:
        self._lanes = block.lanes
        self._packing = Packing(block)

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Sequence[Value]],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value],
    ) -> None:
        """Four vectors of sums at a time become one of bytes."""
        count, lanes = len(sums[0]), self._lanes
        flat = [(p, v) for p in range(len(sums)) for v in range(count)]
        for first in range(0, len(flat), 4):
            real = flat[first : first + 4]
            four = real + [real[-1]] * (4 - len(real))
            vs = tuple(v for _, v in four)
            added = [self._other(b, others, four[i : i + 2]) for i in (0, 2) if others]
            sums_of = [sums[p][v] for p, v in four]
            q = in_order(b, self._packing.packed(b, sums_of, vs, added))
            for start, length in _runs(real):
                pixel, v = real[start]
                size = min(length * lanes, channels - v * lanes)
                place = biased(at(b, to[pixel], v * lanes))
                store_bytes(b, q, place, size, start * lanes)

    def store_interleaved(
        self, b: ir.IRBuilder, four: Sequence[Value], to: Sequence[Value], channels: int
    ) -> None:
        """The order that unpacks make is the order that packs undo."""
        q = self._packing.packed(b, four, (0, 1, 2, 3))
        width = 4 * self._lanes // len(to)
        for pixel, pointer in enumerate(to):
            store_bytes(b, q, biased(pointer), channels, pixel * width)

    def _other(
        self, b: ir.IRBuilder, others: Sequence[Value], two: Sequence[tuple[int, int]]
    ) -> Value:
        """The bytes to add to two vectors, given as (pixel, vector)."""
        lanes = self._lanes
        first, second = (at(b, others[p], v * lanes) for p, v in two)
        (p, v), after = two
        if after == (p, v + 1):
            return widened_row(b, first, lanes)
        return widened_pair(b, first, second, lanes)


def _runs(real: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, length) of stretches that lie in one pixel, side by side."""
    starts = [i for i, (p, v) in enumerate(real) if i == 0 or real[i - 1] != (p, v - 1)] + [
        len(real)
    ]
    return [(a, z - a) for a, z in itertools.pairwise(starts)]
