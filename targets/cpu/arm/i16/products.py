"""Convolutions and dense layers with operands or results of 16 bits on AArch64.

What differs by the instructions is how a tile multiplies, `TileSums`: byte by byte with dot
products and with products of matrices (planes.py), else in lanes of 16 bits (words.py).

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d, QDense).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.results import Results
from qcomp.targets.cpu.arm.i16.scale import Tables
from qcomp.targets.cpu.arm.i16.tiling import LANES, Tiling
from qcomp.targets.cpu.arm.i16.walk import Walk
from qcomp.targets.cpu.emit.builder import Value, at, divided, loop, multiple, overlapped
from qcomp.targets.cpu.emit.i16.spec import LayerConstants
from qcomp.targets.cpu.emit.span import Span


class TileSums(Protocol):
    """How the sums of the pixels of a tile times some vectors of channels are made and scaled."""

    @property
    def vectors(self) -> int:
        """Of channels, at once."""

    @property
    def together(self) -> int:
        """Steps in straight code."""

    @property
    def entries(self) -> tuple[int, int, int]:
        """Bytes of bias, multiplier and shift of a channel."""

    def tables(self, layer: LayerConstants) -> Sequence[Array]:
        """Bias, multiplier and shift by channel, as `scaled` reads them."""

    def scaled(self, b: ir.IRBuilder, walk: Walk, tables: Tables) -> Sequence[Sequence[Value]]:
        """[pixel][vector] of i32, without the zero point."""


@dataclass(frozen=True)
class TiledProducts:
    """Emits the kernel of one shape class."""

    tiling: Tiling
    sums: TileSums
    results: Results

    @property
    def key(self) -> TiledProducts:
        return self

    @property
    def units(self) -> int:
        """A unit is a run of tiles of some vectors; neighbouring units share their weights."""
        spec = self.tiling.spec
        blocks = spec.groups.count * self.tiling.blocks * self._parts
        return blocks * spec.batch.count * spec.rows.count * self.tiling.runs

    @property
    def _parts(self) -> int:
        """Of a block, each as many vectors as are summed up at once."""
        return self.tiling.vectors // self.sums.vectors

    def constants(self, layer: LayerConstants) -> list[Array]:
        tables = self.sums.tables(layer)
        return [self.tiling.packed(layer.weight), *map(self.tiling.by_block, tables)]

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        tiling, spec = self.tiling, self.tiling.spec
        src, dst, weights, *tables, limits = pointers
        result: int = spec.result.width // 8
        channels = LANES * self.sums.vectors
        to = self.results.loaded(b, limits)
        last = max(0, spec.channels - tiling.block)

        def unit(index: Value) -> None:
            rest, run = divided(b, index, tiling.runs)
            rest, row = divided(b, rest, spec.rows.count)
            rest, image = divided(b, rest, spec.batch.count)
            which, part = divided(b, rest, self._parts)
            group, block = divided(b, which, tiling.blocks)
            column = overlapped(b, run, tiling.run, spec.columns.count)
            y = at(b, dst, multiple(b, part, channels * result))
            if last:
                channel = overlapped(b, block, tiling.block, spec.channels)
                y = at(b, y, multiple(b, channel, result))
            x = src
            steps = zip(
                (group, image, row, column),
                (spec.groups, spec.batch, spec.rows, spec.columns),
                strict=True,
            )
            for n, axis in steps:
                x, y = at(b, x, multiple(b, n, axis.src)), at(b, y, multiple(b, n, axis.dst))
            size = spec.segment_count * tiling.steps * tiling.group * tiling.block
            w = at(b, weights, multiple(b, which, size))
            w = at(b, w, multiple(b, part, tiling.group * channels))
            block_tables = Tables(
                *(
                    at(
                        b,
                        at(b, table, multiple(b, which, tiling.block * entry)),
                        multiple(b, part, channels * entry),
                    )
                    for table, entry in zip(tables, self.sums.entries, strict=True)
                )
            )

            def tile(n: Value | int) -> None:
                p = at(b, x, multiple(b, n, tiling.pixels * spec.columns.src))
                q = at(b, y, multiple(b, n, tiling.pixels * spec.columns.dst))
                pixels = self.sums.scaled(b, Walk(tiling, self.sums.together, p, w), block_tables)
                for pixel, vectors in enumerate(pixels):
                    to.store(b, vectors, at(b, q, pixel * spec.columns.dst), spec.channels)

            loop(b, tiling.tiles, tile, "tile")

        Span(begin, end).loop(b, unit)
        b.ret_void()
