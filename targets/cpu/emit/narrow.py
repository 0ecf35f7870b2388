"""The narrow form of an epilogue in a machine's own instructions: what it gets, what it does.

Meaning: qcomp.quant.fixed_point.requantize (NARROW). `NarrowEpilogue` is what a machine has to say;
one that says nothing gets the portable form of emit/epilogue.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, Value, at, load, shuffle, splat, store_bytes, vector


@dataclass(frozen=True, eq=False)
class BlockParameters:
    """The parameters of one block of channels.

    `header` points to the layer's constants, `tables` to the block's first entry in the first of
    the tables bias, multiplier, shift (and ceiling), which are `table_bytes` apart. The entries of
    a vector of sums (`lanes` of them) follow those of the one before, `vector_bytes` after their
    begin; `repeated` times, one copy after the other, in vectors that are sums of so many pixels.
    """

    header: Value
    tables: Value
    table_bytes: int
    vector_bytes: int
    lanes: int
    ceiling: bool
    lookup: bool
    clamped: bool
    repeated: int
    rectified: bool
    shifts_right: bool = False

    def bias(self, b: ir.IRBuilder, v: int) -> Value:
        return self._entries(b, 0, v)

    def start(self, b: ir.IRBuilder, vectors: int, pixels: int) -> list[Value]:
        """The bias of each vector, loaded once, for each pixel."""
        return [self.bias(b, v) for v in range(vectors)] * pixels

    def multiplier(self, b: ir.IRBuilder, v: int) -> Value:
        return self._entries(b, 1, v)

    def shift(self, b: ir.IRBuilder, v: int) -> Value:
        """Where all are below 0 their sign is set again, which tells the compiler so."""
        shift = self._entries(b, 2, v)
        return b.or_(shift, splat(I32, self.lanes, -(2**31))) if self.shifts_right else shift

    def ceilings(self, b: ir.IRBuilder, v: int) -> Value:
        return self._entries(b, 3, v)

    def _entries(self, b: ir.IRBuilder, table: int, v: int) -> Value:
        count = self.lanes // self.repeated
        offset = table * self.table_bytes + v * self.vector_bytes
        entries = load(b, at(b, self.tables, offset), vector(I32, count))
        if self.repeated == 1:
            return entries
        return shuffle(b, entries, entries, [*range(count)] * self.repeated)


class NarrowEpilogue(Protocol):
    """The epilogue at one place of the code, where each constant is loaded once."""

    def keep(self, b: ir.IRBuilder, vectors: int) -> bool:
        """Load constants here, for the block's only store; False: each store loads its own."""

    def start(self, b: ir.IRBuilder, vectors: int, pixels: int) -> list[Value]:
        """The sums [pixel][vector] before any product: the biases."""

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Sequence[Value]],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value],
    ) -> None:
        """sums[pixel][vector] to the pointer of each pixel; `channels` of the vectors are real.

        `others` point to what a fused residual addition adds to each pixel.
        """

    def store_interleaved(
        self, b: ir.IRBuilder, four: Sequence[Value], to: Sequence[Value], channels: int
    ) -> None:
        """Sums in the order of `interleaved`: `channels` of each of the pixels that share them."""


MakeNarrow = Callable[[BlockParameters], NarrowEpilogue]
Narrow = Callable[[Sequence[Value], Sequence[tuple[int, int]]], Value]


def store_by_fours(
    b: ir.IRBuilder,
    sums: Sequence[Sequence[Value]],
    to: Sequence[Value],
    channels: int,
    lanes: int,
    narrowed: Narrow,
) -> None:
    """`NarrowEpilogue.store` where four vectors of sums at a time become one of bytes.

    narrowed(sums, their (pixel, vector)) -> bytes in the order of the sums.
    """
    flat = [(p, v) for p in range(len(sums)) for v in range(len(sums[0]))]
    for first in range(0, len(flat), 4):
        real = flat[first : first + 4]
        four = real + [real[-1]] * (4 - len(real))
        q = narrowed([sums[p][v] for p, v in four], four)
        for start, length in _runs(real):
            pixel, v = real[start]
            size = min(length * lanes, channels - v * lanes)
            store_bytes(b, q, at(b, to[pixel], v * lanes), size, start * lanes)


def _runs(real: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, length) of stretches that lie in one pixel, side by side."""
    starts = [i for i, (p, v) in enumerate(real) if i == 0 or real[i - 1] != (p, v - 1)] + [
        len(real)
    ]
    return [(a, z - a) for a, z in itertools.pairwise(starts)]
