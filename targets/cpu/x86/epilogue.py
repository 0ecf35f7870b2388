"""The narrow epilogue of x86: stores what `Packing` makes of four vectors of sums at a time."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value, at, biased, store_bytes
from qcomp.targets.cpu.emit.narrow import BlockParameters, store_by_fours
from qcomp.targets.cpu.x86.packing import Packing, in_order
from qcomp.targets.cpu.x86.residual import widened_pair, widened_row


class PackedEpilogue:
    """Five instructions on packed 16-bit lanes."""

    def __init__(self, block: BlockParameters) -> None:
        self._lanes = block.lanes
        self._packing = Packing(block)

    def keep(self, b: ir.IRBuilder, vectors: int) -> bool:
        """Instructions take operands from memory."""
        return False

    def start(self, b: ir.IRBuilder, vectors: int, pixels: int) -> list[Value]:
        return self._packing.block.start(b, vectors, pixels)

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Sequence[Value]],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value],
    ) -> None:
        """Five instructions on packed 16-bit lanes for two vectors, and a permutation for four."""

        def narrowed(four: Sequence[Value], places: Sequence[tuple[int, int]]) -> Value:
            vs = tuple(v for _, v in places)
            added = [self._other(b, others, places[i : i + 2]) for i in (0, 2) if others]
            return in_order(b, self._packing.packed(b, four, vs, added))

        store_by_fours(b, sums, [biased(p) for p in to], channels, self._lanes, narrowed)

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
