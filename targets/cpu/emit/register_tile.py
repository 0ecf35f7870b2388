"""The dot products of one register tile: some pixels times some vectors of channels.

Four neighbouring k are added at once (`DotProduct`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

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
)
from qcomp.targets.cpu.emit.codes import coded
from qcomp.targets.cpu.emit.dot import DotProduct, Operand
from qcomp.targets.cpu.emit.gemm_blocks import Block, over_segments, repeated
from qcomp.targets.cpu.kernels.gemm import GemmSpec
from qcomp.targets.cpu.kernels.tiling import Tiling
from qcomp.targets.cpu.machine import Isa

_UNROLLED = 256  # dot products of a tile that need no loop
_TOGETHER = 32  # dot products of one trip of the innermost loop


@dataclass(frozen=True)
class RegisterTile:
    """Emits the tiles of one shape class, one at a time.

    The weights `ahead` bytes after those that are used are asked for; 0 asks for none.
    """

    spec: GemmSpec
    tile: Tiling
    isa: Isa
    ahead: int

    @property
    def dot(self) -> DotProduct:
        return self.isa.machine.dot

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

    def biases(self, b: ir.IRBuilder, block: Block) -> list[Value]:
        """What sums start from: sums[pixel * vectors + vector]."""
        start = [block.epilogue.bias(b, v) for v in range(block.vectors)]
        return start * self.tile.pixels

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Value],
        results: Sequence[Value],
        others: Sequence[Value],
        block: Block,
    ) -> None:
        """From sums to stored results; `others` are what is added to the first of these."""
        by_pixel = [sums[i : i + block.vectors] for i in range(0, len(sums), block.vectors)]
        step = self.spec.rows.other, self.spec.columns.other
        added = [at(b, p, r * step[0] + c * step[1]) for p in others for r, c in self._grid]
        block.epilogue.store(b, by_pixel, results, block.channels, added)

    def sums(
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
        if self.ahead and step == 0:
            for v in range(0, count, self.spec.packing.panel // self.isa.lanes):
                prefetch(b, at(b, vectors[v], self.ahead))
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
