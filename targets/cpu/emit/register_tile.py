"""The products of one register tile: some pixels times some vectors of channels.

What is added at once, neighbouring k of one or two pixels, `TileProducts` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    Value,
    at,
    load,
    multiple,
    plus,
    prefetch,
    raw,
    splat,
)
from qcomp.targets.cpu.emit.codes import coded
from qcomp.targets.cpu.emit.dot import Operand
from qcomp.targets.cpu.emit.gemm_blocks import Block, over_segments, repeated
from qcomp.targets.cpu.emit.narrow import MakeNarrow
from qcomp.targets.cpu.emit.tile_products import TileProducts
from qcomp.targets.cpu.kernels.gemm import GemmSpec
from qcomp.targets.cpu.kernels.tiling import Tiling
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True)
class RegisterTile:
    """Emits the tiles of one shape class, one at a time.

    Up to `unrolled` sums times steps need no loop, else a trip has about `trip` of them. The
    weights `ahead` bytes after those that are used are asked for; 0 asks for none.
    """

    spec: GemmSpec
    tile: Tiling
    isa: Isa
    unrolled: int
    trip: int
    ahead: int

    @property
    def products(self) -> TileProducts:
        return self.isa.machine.products

    @property
    def narrow(self) -> MakeNarrow | None:
        """The narrow epilogue of what `store` hands to it."""
        return self.products.narrow or self.isa.machine.narrow

    @property
    def _as_they_are(self) -> bool:
        """Whether the epilogue takes sums, and not totals."""
        return self.products.narrow is not None and self.spec.form is Form.NARROW

    @property
    def _grid(self) -> list[tuple[int, int]]:
        return [(r, c) for r in range(self.tile.rows) for c in range(self.tile.columns)]

    def pixels(self, b: ir.IRBuilder, src: Value) -> list[Value]:
        """Where the bytes of each pixel begin; `src` is the first one."""
        spec = self.spec
        return [at(b, src, r * spec.rows.src + c * spec.columns.src) for r, c in self._grid]

    def results(self, b: ir.IRBuilder, dst: Value) -> list[Value]:
        """Where the result of each pixel goes; `dst` is the first one."""
        spec = self.spec
        return [at(b, dst, r * spec.rows.dst + c * spec.columns.dst) for r, c in self._grid]

    def registers(self, vectors: int) -> int:
        """Of the sums of `vectors` vectors of channels."""
        groups = -(-self.tile.pixels // self.products.pixels)
        return groups * vectors * self.products.parts

    def start(self, b: ir.IRBuilder, block: Block) -> list[Value]:
        """What sums start from: the biases, if they do not come in the end."""
        if self._as_they_are:
            return block.epilogue.start(b, block.vectors, self.tile.pixels)
        if self.products.biased:
            groups = -(-self.tile.pixels // self.products.pixels)
            biases = block.epilogue.start(b, block.vectors, groups)
            return [part for bias in biases for part in self.products.start(b, bias)]
        return [splat(I32, self.isa.lanes, 0)] * self.registers(block.vectors)

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Value],
        results: Sequence[Value],
        others: Sequence[Value],
        block: Block,
    ) -> None:
        """From sums to stored results; `others` are what is added to the first of these."""
        if self._as_they_are:
            each = block.vectors * self.products.parts
            by_pixel = [sums[i : i + each] for i in range(0, len(sums), each)]
        else:
            by_pixel = self._totals(b, sums, block)
        step = self.spec.rows.other, self.spec.columns.other
        added = [at(b, p, r * step[0] + c * step[1]) for p in others for r, c in self._grid]
        block.epilogue.store(b, by_pixel, results, block.channels, added)

    def _totals(
        self, b: ir.IRBuilder, sums: Sequence[Value], block: Block
    ) -> list[Sequence[Value]]:
        """totals[pixel][vector], with the biases."""
        products, vectors = self.products, block.vectors
        totals: list[list[Value]] = [[] for _ in range(self.tile.pixels)]
        for n, part in enumerate(range(0, len(sums), products.parts)):
            first = n // vectors * products.pixels
            apart = products.totals(b, sums[part : part + products.parts])
            for pixel, total in zip(totals[first:], apart, strict=False):
                pixel.append(total)
        if products.biased:
            return [*totals]
        biases = block.epilogue.start(b, vectors, self.tile.pixels)
        by_pixel = [biases[i : i + vectors] for i in range(0, len(biases), vectors)]
        return [
            [b.add(total, bias) for total, bias in zip(*pixel, strict=True)]
            for pixel in zip(totals, by_pixel, strict=True)
        ]

    def sums(
        self,
        b: ir.IRBuilder,
        pixels: Sequence[Value],
        block: Block,
        start: Sequence[Value],
    ) -> list[Value]:
        """sums[(pixels * vectors + vector) * parts + part] over all segments.

        Weights advance linearly.
        """
        spec = self.spec
        size = self.products.pixels
        padded = [*pixels, *[pixels[-1]] * (-len(pixels) % size)]
        groups = [padded[i : i + size] for i in range(0, len(padded), size)]
        group, in_row = spec.packing.group, spec.row_steps
        loaded = self.products.together if spec.mixed[0] == 1 else 1
        at_once = 2 if self.products.pairs and spec.pairs else 1
        together = max(loaded, in_row)  # powers of two, both
        whole, rest = divmod(spec.steps, together)
        unrolled = spec.all_steps * len(start) <= self.unrolled

        def segment(x: Value | int, w: Value | int, sums: Sequence[Value]) -> Sequence[Value]:
            def trip(n: Value | int, sums: Sequence[Value], count: int) -> Sequence[Value]:
                for first in range(0, count, loaded):
                    offset = plus(b, x, plus(b, multiple(b, n, together * group), first * group))
                    places = [[at(b, p, offset) for p in some] for some in groups]
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
                unroll = whole if unrolled else max(1, self.trip // (len(start) * together))
                sums = repeated(b, whole, sums, partial(trip, count=together), unroll)
            return trip(whole, sums, rest) if rest else sums

        sums = list(start)
        if spec.steps:
            sums = list(over_segments(b, spec, sums, segment, unrolled=unrolled))
        for n in range(spec.joined_steps):
            row, k = divmod(n, in_row)
            ends = [partial(self._ends, b, some, n) for some in groups]
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
        if self.ahead and rows[0][1] == 0:
            for v in range(0, count, self.spec.packing.panel // self.isa.lanes):
                prefetch(b, at(b, vectors[0][v], self.ahead))
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
