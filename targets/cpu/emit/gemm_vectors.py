"""GEMMs in vector registers: a tile is some pixels times some vectors of channels.

Weights of few bits are unpacked as they are loaded. Where a call has some tiles of pixels, those of
a block of channels are unpacked to the stack once for all of these (emit/unpacked.py), or for some
if they are too many (emit/gemm_parts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.branch import either
from qcomp.targets.cpu.emit.builder import Value, at, divided, multiple, overlapped
from qcomp.targets.cpu.emit.gemm_blocks import Block, EmitPixels, over_blocks
from qcomp.targets.cpu.emit.gemm_parts import Parts, Visit, part_of
from qcomp.targets.cpu.emit.register_tile import RegisterTile
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.stack import stack
from qcomp.targets.cpu.emit.unpacked import unpack, unpacked
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.kernels.codes import unpacking
from qcomp.targets.cpu.kernels.gemm import GemmPlan, GemmSpec, Packing, Touched, tile_starts
from qcomp.targets.cpu.kernels.tiling import GemmCosts, Tiling, cheapest_tiling
from qcomp.targets.cpu.machine import Isa

_FEW_TILES = 16  # tiles of pixels, over which the time to fetch the weights is spread
_LEAST_PIXELS = 4  # of a tile, else it is loads that limit
_WORTH_UNPACKING = 4  # tiles of pixels: what unpacking to the stack costs is spread over these
_MOVED = 2.0  # instructions of a vector that goes through memory: a load and a store


EmitSums = Callable[[Sequence[Value], Sequence[Value]], Sequence[Value]]


@dataclass(frozen=True)
class VectorGemms:
    """The family of kernels in vector registers; it takes every layer."""

    packing: Packing
    costs: GemmCosts

    def kernel(self, spec: GemmSpec, isa: Isa) -> VectorGemm:
        """The one with the cheapest tiles; threads share its pixels, or channels if more."""
        return min(self.ways(spec, isa), key=lambda way: way.cost)

    def ways(self, spec: GemmSpec, isa: Isa) -> Iterator[VectorGemm]:
        """Weights of few bits are unpacked as they are loaded, or to the stack if they fit."""
        yield self._planned(spec, isa, self.costs.unpacking(unpacking(spec.weight_bits)))
        if spec.weight_bits == 8:
            return
        outermost = 1 if spec.joined or not spec.segments else spec.segments[0][0]
        for parts in sorted({1, outermost}):
            step = -(-spec.all_steps // parts) * self.packing.group * isa.lanes
            most = min(self.costs.most_vectors, self.costs.scratch // step)
            narrow = replace(self.costs, most_vectors=most)
            way = replace(self._planned(spec, isa, narrow), parts=parts)
            if way.waiting >= _WORTH_UNPACKING:
                yield way

    def _planned(self, spec: GemmSpec, isa: Isa, costs: GemmCosts) -> VectorGemm:
        each, tile = cheapest_tiling(
            spec.rows.count, spec.columns.count, spec.channels, spec.all_steps,
            self.packing.panel, costs, spec.shuffles,
        )  # fmt: skip
        cost = each * spec.groups.count * spec.batch.count
        rows, columns = -(-spec.rows.count // tile.rows), -(-spec.columns.count // tile.columns)
        plan = GemmPlan(tile, tile.blocks, spec.batch.count * rows * columns, cost)
        return VectorGemm(spec, plan, isa, self.costs)


@dataclass(frozen=True)
class VectorGemm:
    """Emits the kernel of one shape class in vector registers."""

    spec: GemmSpec
    plan: GemmPlan[Tiling]
    isa: Isa
    costs: GemmCosts
    parts: int = 0  # of a block's weights, each unpacked for all pixels; 0: as they are loaded

    @property
    def tile(self) -> Tiling:
        return self.plan.tile

    @property
    def cost(self) -> float:
        return self.plan.cost + self._unpacking

    @property
    def _unpacking(self) -> float:
        """Cycles to unpack all weights to the stack, and for the sums that wait there."""
        if not self.parts:
            return 0.0
        often = -(-self.plan.pixels // self.waiting)
        each = often * self.spec.all_steps * (unpacking(self.spec.weight_bits) + _MOVED)
        if self.parts > 1:
            each += (self.parts + 1) * self.plan.pixels * self.tile.pixels * _MOVED
        return self.spec.groups.count * sum(self.plan.blocks) * each / 3

    @property
    def _part(self) -> GemmSpec:
        return part_of(self.spec) if self.parts > 1 else self.spec

    @property
    def _weight_bytes(self) -> int:
        """Of a whole block's part, unpacked."""
        panels = -(-self.plan.blocks[0] * self.isa.lanes // self.spec.packing.panel)
        return panels * unpacked(self._part).panel_bytes

    @property
    def _sum_bytes(self) -> int:
        """Of a register tile of a whole block."""
        return self.tile.pixels * self.plan.blocks[0] * self.isa.machine.vectors.bytes

    @property
    def waiting(self) -> int:
        """Tiles of pixels that weights, once unpacked, may serve."""
        free = self.costs.scratch - self._weight_bytes
        fit = free // self._sum_bytes if self.parts > 1 else self.plan.pixels
        return min(self.plan.pixels, fit) if free >= 0 else 0

    @property
    def scratch_bytes(self) -> int:
        """Of the stack."""
        sums = self.waiting * self._sum_bytes if self.parts > 1 else 0
        return self._weight_bytes + sums if self.parts else 0

    @property
    def by_channels(self) -> bool:
        return self.plan.by_channels

    @property
    def units(self) -> int:
        return self.plan.units

    def touched(self) -> Touched:
        spec, tile = self.spec, self.tile
        across = tile_starts(spec.columns.count, tile.columns)
        down = tile_starts(spec.rows.count, tile.rows)
        shape = (spec.batch.count, len(down), len(across))
        image, row, column = np.unravel_index(np.arange(np.prod(shape)), shape)
        y, x = down[row], across[column]
        pixels = (image, y, x), (image, y + tile.rows - 1, x + tile.columns - 1)
        return Touched(pixels, pixels)

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Units [begin, end); pointers of `over_blocks`."""
        pixels = self._emitter(b)
        over_blocks(b, self.spec, self.plan, self.isa, pointers, Span(begin, end), pixels)
        b.ret_void()

    def _emitter(self, b: ir.IRBuilder) -> EmitPixels:
        if self.parts > 1:
            return self._in_parts(b)
        return self._at_once(b) if self.parts else self._as_loaded

    def _as_loaded(self, b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
        tile = self._register_tile
        self._tiles(b, span, src, block, lambda pixels, start: tile.sums(b, pixels, block, start))

    def _at_once(self, b: ir.IRBuilder) -> EmitPixels:
        """The branch is inside of the tiles, whose epilogues are long."""
        memory, width = stack(b, self._weight_bytes), self.isa.machine.vectors.bytes
        tile, wide = self._register_tile, replace(self._register_tile, spec=unpacked(self.spec))

        def pixels(b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
            enough = self._enough(b, span)
            there = replace(block, weights=memory)
            with b.if_then(enough):
                unpack(b, self.spec, self.spec.panel_bytes, block.weights, memory, block, width)

            def sums(pixels: Sequence[Value], start: Sequence[Value]) -> Sequence[Value]:
                return either(
                    b,
                    enough,
                    lambda: wide.sums(b, pixels, there, start),
                    lambda: tile.sums(b, pixels, block, start),
                )

            self._tiles(b, span, src, block, sums)

        return pixels

    def _in_parts(self, b: ir.IRBuilder) -> EmitPixels:
        sums = stack(b, self.waiting * self._sum_bytes)
        weights = stack(b, self._weight_bytes)
        tile = replace(self._register_tile, spec=unpacked(self._part))
        parts = Parts(self.spec, tile, self._over_tiles, self.waiting, weights, sums)

        def pixels(b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
            with b.if_else(self._enough(b, span)) as (many, few):
                with many:
                    parts.pixels(b, span, src, block)
                with few:
                    self._as_loaded(b, span, src, block)

        return pixels

    def _enough(self, b: ir.IRBuilder, span: Span) -> Value:
        """i1: whether a span has tiles to unpack weights for; threads and bands may ask for few.

        A block of channels has all tiles.
        """
        if self.by_channels:
            return ir.Constant(ir.IntType(1), 1)
        return b.icmp_signed(">=", b.sub(span.end, span.begin), word(b, _WORTH_UNPACKING))

    @cached_property
    def _register_tile(self) -> RegisterTile:
        return RegisterTile(self.spec, self.tile, self.isa, self._ahead)

    def _tiles(self, b: ir.IRBuilder, span: Span, src: Value, block: Block, sums: EmitSums) -> None:
        """The tiles of a span, whose sums are sums(pixels, start)."""
        tile = self._register_tile

        def visit(_: Value, x: Value, y: Value, others: Sequence[Value]) -> None:
            pixels, results = tile.pixels(b, x), tile.results(b, y)
            tile.store(b, sums(pixels, tile.biases(b, block)), results, others, block)

        self._over_tiles(b, span, src, block, visit)

    def _over_tiles(
        self, b: ir.IRBuilder, span: Span, src: Value, block: Block, visit: Visit
    ) -> None:
        """visit(unit, the places of its first pixel: source, result, operands of residuals)."""
        spec, tile = self.spec, self.tile
        columns = -(-spec.columns.count // tile.columns)
        rows = -(-spec.rows.count // tile.rows)

        def one(unit: Value) -> None:
            rest, column = divided(b, unit, columns)
            image, row = divided(b, rest, rows)
            x = overlapped(b, column, tile.columns, spec.columns.count)
            y = overlapped(b, row, tile.rows, spec.rows.count)
            where = ((image, spec.batch), (y, spec.rows), (x, spec.columns))
            from_, to, others = src, block.dst, block.others
            for index, axis in where:
                from_ = at(b, from_, multiple(b, index, axis.src))
                to = at(b, to, multiple(b, index, axis.dst))
                others = [at(b, p, multiple(b, index, axis.other)) for p in others]
            visit(unit, from_, to, others)

        span.loop(b, one, "tile")

    @property
    def _ahead(self) -> int:
        """How far ahead of their use weights are asked for: those of the next block of channels."""
        few = self.plan.pixels <= _FEW_TILES and self.tile.pixels >= _LEAST_PIXELS
        far = self.spec.panels * self.spec.panel_bytes >= self.costs.far_weights
        if self.parts or not few or not far or len(self.plan.blocks) == 1:
            return 0
        wide = self.plan.blocks[0] * self.isa.lanes
        return wide // self.spec.packing.panel * self.spec.panel_bytes
