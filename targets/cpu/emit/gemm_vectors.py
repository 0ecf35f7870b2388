"""GEMMs in vector registers: a tile is some pixels times some vectors of channels.

Four neighbouring k are added at once (`DotProduct`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    Value,
    at,
    divided,
    load,
    multiple,
    overlapped,
    plus,
    prefetch,
    raw,
)
from qcomp.targets.cpu.emit.codes import coded
from qcomp.targets.cpu.emit.dot import DotProduct, Operand
from qcomp.targets.cpu.emit.gemm_blocks import Block, over_blocks, over_segments, repeated
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.codes import unpacking
from qcomp.targets.cpu.kernels.gemm import GemmPlan, GemmSpec, Packing, Touched, tile_starts
from qcomp.targets.cpu.kernels.tiling import GemmCosts, Tiling, cheapest_tiling
from qcomp.targets.cpu.machine import Isa

_UNROLLED = 256  # dot products of a tile that need no loop
_FEW_TILES = 16  # tiles of pixels, over which the time to fetch the weights is spread
_LEAST_PIXELS = 4  # of a tile, else it is loads that limit
_TOGETHER = 32  # dot products of one trip of the innermost loop


@dataclass(frozen=True)
class VectorGemms:
    """The family of kernels in vector registers; it takes every layer."""

    packing: Packing
    costs: GemmCosts

    def kernel(self, spec: GemmSpec, isa: Isa) -> VectorGemm:
        """The one with the cheapest tiles; threads share its pixels, or channels if more."""
        each, tile = cheapest_tiling(
            spec.rows.count, spec.columns.count, spec.channels, spec.all_steps,
            self.packing.panel, self.costs.unpacking(unpacking(spec.weight_bits)), spec.shuffles,
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

    @property
    def dot(self) -> DotProduct:
        return self.isa.machine.dot

    @property
    def tile(self) -> Tiling:
        return self.plan.tile

    @property
    def cost(self) -> float:
        return self.plan.cost

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
        over_blocks(b, self.spec, self.plan, self.isa, pointers, Span(begin, end), self._pixels)
        b.ret_void()

    def _pixels(self, b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
        """The tiles of pixels of a span, one after the other."""
        block.epilogue.keep(b, block.vectors)
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
            self._tile(b, from_, to, others, block)

        span.loop(b, one, "tile")

    def _tile(
        self, b: ir.IRBuilder, src: Value, dst: Value, others: Sequence[Value], block: Block
    ) -> None:
        spec, tile = self.spec, self.tile
        grid = [(r, c) for r in range(tile.rows) for c in range(tile.columns)]
        pixels = [at(b, src, r * spec.rows.src + c * spec.columns.src) for r, c in grid]
        results = [at(b, dst, r * spec.rows.dst + c * spec.columns.dst) for r, c in grid]
        start = block.epilogue.start(b, block.vectors, len(grid))
        sums = self._sums(b, pixels, block, start)
        by_pixel = [sums[i : i + block.vectors] for i in range(0, len(sums), block.vectors)]
        added = [
            at(b, p, r * spec.rows.other + c * spec.columns.other) for p in others for r, c in grid
        ]
        block.epilogue.store(b, by_pixel, results, block.channels, added)

    def _sums(
        self,
        b: ir.IRBuilder,
        pixels: Sequence[Value],
        block: Block,
        start: Sequence[Value],
    ) -> list[Value]:
        """sums[pixel * vectors + vector] over all segments; weights advance linearly."""
        spec = self.spec
        group, in_row = spec.packing.group, spec.row_steps
        loaded = self.dot.together if spec.mixed[0] == 1 else 1
        together = max(loaded, in_row)  # powers of two, both
        whole, rest = divmod(spec.steps, together)
        unrolled = spec.all_steps * len(start) <= _UNROLLED

        def segment(x: Value | int, w: Value | int, sums: Sequence[Value]) -> Sequence[Value]:
            def trip(n: Value | int, sums: Sequence[Value], count: int) -> Sequence[Value]:
                for first in range(0, count, loaded):
                    offset = plus(b, x, plus(b, multiple(b, n, together * group), first * group))
                    places = [at(b, p, offset) for p in pixels]
                    activations = self._activations(b, places, min(loaded, count - first))
                    for k, one in enumerate(activations, first):
                        row, step = divmod(k, in_row)
                        rows = multiple(b, n, together // in_row * spec.row_bytes)
                        place = plus(b, w, plus(b, rows, row * spec.row_bytes))
                        sums = self._step(b, one, at(b, block.weights, place), step, sums)
                return sums

            if whole:
                unroll = whole if unrolled else max(1, _TOGETHER // (len(start) * together))
                sums = repeated(b, whole, sums, partial(trip, count=together), unroll)
            return trip(whole, sums, rest) if rest else sums

        sums = list(start)
        if spec.steps:
            sums = list(over_segments(b, spec, sums, segment, unrolled=unrolled))
        for n in range(spec.joined_steps):
            row, k = divmod(n, in_row)
            activations = [partial(self._ends, b, p, n) for p in pixels]
            place = at(b, block.weights, spec.inside_bytes + row * spec.row_bytes)
            sums = self._step(b, activations, place, k, sums)
        return sums

    def _activations(
        self, b: ir.IRBuilder, pixels: Sequence[Value], count: int
    ) -> list[list[Callable[[], Operand]]]:
        """Of `count` groups of k: for each of these, of each pixel; loaded when they are used."""
        if count == 1:
            return [[partial(self._inside, b, pixel) for pixel in pixels]]
        loaded = [self.dot.same(b, raw(pixel), count) for pixel in pixels]
        return [[partial(_known, of_one[k]) for of_one in loaded] for k in range(count)]

    def _step(
        self,
        b: ir.IRBuilder,
        pixels: Sequence[Callable[[], Operand]],
        row: Value,
        step: int,
        sums: Sequence[Value],
    ) -> list[Value]:
        """One step of a row, for each pixel and vector; the smaller side stays in registers."""
        dot, count = self.dot, len(sums) // len(pixels)
        weights = coded(row, self.spec.weight_bits, step)
        vectors = [at(b, weights, self._vector(v)) for v in range(count)]
        if self._fetches_ahead and step == 0:
            for v in range(0, count, self.spec.packing.panel // self.isa.lanes):
                prefetch(b, at(b, vectors[v], self._block_bytes))
        result = list(sums)
        if count <= len(pixels):
            held = [dot.weights(b, p) for p in vectors]
            for m, pixel in enumerate(pixels):
                x = pixel()
                for v, w in enumerate(held):
                    result[m * count + v] = dot.add(b, sums[m * count + v], x, w)
        else:
            xs = [pixel() for pixel in pixels]
            for v, p in enumerate(vectors):
                w = dot.weights(b, p)
                for m, x in enumerate(xs):
                    result[m * count + v] = dot.add(b, sums[m * count + v], x, w)
        return result

    @property
    def _block_bytes(self) -> int:
        """Weights of a whole block of channels, of whole panels."""
        panel = self.spec.packing.panel
        return max(self.plan.blocks[0] * self.isa.lanes, panel) // panel * self.spec.panel_bytes

    @property
    def _fetches_ahead(self) -> bool:
        """Whether the weights of the next block are asked for while those of a block are used."""
        if self.plan.pixels > _FEW_TILES or self.tile.pixels < _LEAST_PIXELS:
            return False
        return (
            len(self.plan.blocks) > 1
            and self.spec.panels * self.spec.panel_bytes >= self.costs.far_weights
        )

    def _inside(self, b: ir.IRBuilder, pixel: Value) -> Operand:
        """Four bytes of a segment; each channel has those of its own group, if they are mixed."""
        count, stride = self.spec.mixed
        if count == 1:
            return self.dot.same(b, pixel, 1)[0]
        own = self.spec.channels // count
        starts = [min(c // own, count - 1) * stride for c in range(self.isa.lanes)]
        return self.dot.mixed(b, pixel, starts)

    def _ends(self, b: ir.IRBuilder, pixel: Value, n: int) -> Operand:
        """The ends of some segments, side by side."""
        spec = self.spec
        first = n * spec.ends
        four: Value = ir.Constant(I32, 0)
        for i, segment in enumerate(range(first, min(first + spec.ends, spec.segment_count))):
            place = at(
                b, raw(pixel), spec.segment_offset(segment) + spec.steps * spec.packing.group
            )
            end = b.zext(load(b, place, ir.IntType(8 * spec.end)), I32)
            four = b.or_(four, b.shl(end, ir.Constant(I32, 8 * spec.end * i)))
        return self.dot.every(b, four)

    def _vector(self, v: int) -> int:
        """Where the weights of a block's vector lie, within one step."""
        packing = self.spec.packing
        panel, channel = divmod(v * self.isa.lanes, packing.panel)
        return panel * self.spec.panel_bytes + channel * packing.group


def _known(operand: Operand) -> Operand:
    return operand
