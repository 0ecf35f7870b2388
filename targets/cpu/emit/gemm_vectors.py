"""GEMMs in vector registers: a tile is some pixels times some vectors of channels.

What is added at once, neighbouring k of one or two pixels, `TileProducts` says.
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
    splat,
)
from qcomp.targets.cpu.emit.codes import coded
from qcomp.targets.cpu.emit.dot import Operand
from qcomp.targets.cpu.emit.gemm_blocks import Block, over_blocks, over_segments, repeated
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.tile_products import TileProducts
from qcomp.targets.cpu.kernels.codes import unpacking
from qcomp.targets.cpu.kernels.gemm import GemmPlan, GemmSpec, Packing, Touched, tile_starts
from qcomp.targets.cpu.kernels.tiling import GemmCosts, Tiling, cheapest_tiling
from qcomp.targets.cpu.machine import Isa

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
    def products(self) -> TileProducts:
        return self.isa.machine.products

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
        by_pixel = self._totals(b, pixels, block)
        added = [
            at(b, p, r * spec.rows.other + c * spec.columns.other) for p in others for r, c in grid
        ]
        block.epilogue.store(b, by_pixel, results, block.channels, added)

    def _totals(
        self, b: ir.IRBuilder, pixels: Sequence[Value], block: Block
    ) -> list[Sequence[Value]]:
        """totals[pixel][vector], with the biases."""
        products, vectors, count = self.products, block.vectors, len(pixels)

        def biases() -> list[Sequence[Value]]:
            start = block.epilogue.start(b, vectors, count)
            return [start[i : i + vectors] for i in range(0, len(start), vectors)]

        size = products.pixels
        padded = [*pixels, *[pixels[-1]] * (-count % size)]
        groups = [padded[i : i + size] for i in range(0, len(padded), size)]
        if products.biased:
            start = [bias for pixel in biases() for bias in pixel]
        else:
            start = [splat(I32, self.isa.lanes, 0)] * (len(groups) * vectors * products.parts)
        sums = self._sums(b, groups, block, start)
        totals: list[list[Value]] = [[] for _ in padded]
        for n, part in enumerate(range(0, len(sums), products.parts)):
            first = n // vectors * size
            apart = products.totals(b, sums[part : part + products.parts])
            for pixel, total in enumerate(apart, first):
                totals[pixel].append(total)
        if products.biased:
            return [*totals]
        return [
            [b.add(total, bias) for total, bias in zip(pixel, of_pixel, strict=True)]
            for pixel, of_pixel in zip(totals, biases(), strict=False)
        ]

    def _sums(
        self,
        b: ir.IRBuilder,
        pixels: Sequence[Sequence[Value]],
        block: Block,
        start: Sequence[Value],
    ) -> list[Value]:
        """sums[(pixels * vectors + vector) * parts + part] over all segments.

        Weights advance linearly.
        """
        spec = self.spec
        group, in_row = spec.packing.group, spec.row_steps
        loaded = self.products.together if spec.mixed[0] == 1 else 1
        at_once = 2 if self.products.pairs and spec.pairs else 1
        together = max(loaded, in_row)  # powers of two, both
        whole, rest = divmod(spec.steps, together)
        unrolled = spec.all_steps * len(start) <= self.costs.unrolled

        def segment(x: Value | int, w: Value | int, sums: Sequence[Value]) -> Sequence[Value]:
            def trip(n: Value | int, sums: Sequence[Value], count: int) -> Sequence[Value]:
                for first in range(0, count, loaded):
                    offset = plus(b, x, plus(b, multiple(b, n, together * group), first * group))
                    places = [[at(b, p, offset) for p in some] for some in pixels]
                    here = min(loaded, count - first)
                    activations = self._activations(b, places, here)
                    for k in range(0, here, at_once):
                        rows = []
                        for row, step in (
                            divmod(first + j, in_row) for j in range(k, min(k + at_once, here))
                        ):
                            trips = multiple(b, n, together // in_row * spec.row_bytes)
                            place = plus(b, w, plus(b, trips, row * spec.row_bytes))
                            rows.append((at(b, block.weights, place), step))
                        sums = self._steps(b, activations[k : k + at_once], rows, sums)
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
            ends = [partial(self._ends, b, p, n) for p in pixels]
            place = at(b, block.weights, spec.inside_bytes + row * spec.row_bytes)
            sums = self._steps(b, [ends], [(place, k)], sums)
        return sums

    def _activations(
        self, b: ir.IRBuilder, pixels: Sequence[Sequence[Value]], count: int
    ) -> list[list[Callable[[], Operand]]]:
        """Of `count` steps: for each of these, of each pixel; loaded when they are used."""
        if count == 1:
            return [[partial(self._inside, b, pixel) for pixel in pixels]]
        loaded = [self.products.same(b, [raw(p) for p in some], count) for some in pixels]
        return [[partial(_known, of_one[k]) for of_one in loaded] for k in range(count)]

    def _steps(
        self,
        b: ir.IRBuilder,
        pixels: Sequence[Sequence[Callable[[], Operand]]],
        rows: Sequence[tuple[Value, int]],
        sums: Sequence[Value],
    ) -> list[Value]:
        """One or two steps, for each pixel and vector; the smaller side stays in registers.

        pixels[step][pixel], and where the steps lie: a row, and which of the steps in it.
        """
        products, parts = self.products, self.products.parts
        count = len(sums) // parts // len(pixels[0])
        vectors = []
        for row, step in rows:
            weights = coded(row, self.spec.weight_bits, step)
            vectors.append([at(b, weights, self._vector(v)) for v in range(count)])
        if self._fetches_ahead and rows[0][1] == 0:
            for v in range(0, count, self.spec.packing.panel // self.isa.lanes):
                prefetch(b, at(b, vectors[0][v], self._block_bytes))
        result = list(sums)

        def add(m: int, v: int, x: Sequence[Operand], w: Sequence[Operand]) -> None:
            first = (m * count + v) * parts
            result[first : first + parts] = products.add(b, sums[first : first + parts], x, w)

        def loaded(v: int) -> list[Operand]:
            return [products.weights(b, step[v]) for step in vectors]

        if count <= len(pixels[0]):
            held = [loaded(v) for v in range(count)]
            for m, steps in enumerate(zip(*pixels, strict=True)):
                x = [operand() for operand in steps]
                for v, w in enumerate(held):
                    add(m, v, x, w)
        else:
            xs = [[operand() for operand in steps] for steps in zip(*pixels, strict=True)]
            for v in range(count):
                w = loaded(v)
                for m, x in enumerate(xs):
                    add(m, v, x, w)
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

    def _inside(self, b: ir.IRBuilder, pixels: Sequence[Value]) -> Operand:
        """A step of a segment; each channel has those of its own group, if they are mixed."""
        count, stride = self.spec.mixed
        if count == 1:
            return self.products.same(b, pixels, 1)[0]
        own = self.spec.channels // count
        starts = [min(c // own, count - 1) * stride for c in range(self.isa.lanes)]
        return self.products.mixed(b, pixels, starts)

    def _ends(self, b: ir.IRBuilder, pixels: Sequence[Value], n: int) -> Operand:
        """The ends of some segments, side by side."""
        return self.products.every(b, [self._joined(b, pixel, n) for pixel in pixels])

    def _joined(self, b: ir.IRBuilder, pixel: Value, n: int) -> Value:
        """Of one pixel, a step as one integer."""
        spec = self.spec
        first = n * spec.ends
        type = ir.IntType(8 * spec.packing.group)
        step: Value = ir.Constant(type, 0)
        for i, segment in enumerate(range(first, min(first + spec.ends, spec.segment_count))):
            place = at(
                b, raw(pixel), spec.segment_offset(segment) + spec.steps * spec.packing.group
            )
            end = b.zext(load(b, place, ir.IntType(8 * spec.end)), type)
            step = b.or_(step, b.shl(end, ir.Constant(type, 8 * spec.end * i)))
        return step

    def _vector(self, v: int) -> int:
        """Where the weights of a block's vector lie, within one step."""
        packing = self.spec.packing
        panel, channel = divmod(v * self.isa.lanes, packing.panel)
        return panel * self.spec.panel_bytes + channel * packing.group


def _known(operand: Operand) -> Operand:
    return operand
