"""Convolution and dense layers as a register-tiled GEMM with implicit im2col.

An NHWC convolution on an image with a border is a matrix product whose K axis is cut in segments:
KH (x KW) runs of contiguous bytes of the source. No copy, no bounds checks. Four neighbouring k are
added at once (`DotProduct`).

Meaning: qcomp.ir.evaluate.integer (QConv2d, QDense); the bias holds -zero_point * sum(w) and the
rounding of the narrow form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.emit.builder import (
    Carried,
    Value,
    at,
    divided,
    i64,
    loop,
    multiple,
    overlapped,
    plus,
    repeat,
)
from qcomp.targets.cpu.emit.dot import GROUP, Accumulator, DotProduct
from qcomp.targets.cpu.emit.epilogue import HEADER_BYTES, Epilogue
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.tile_cost import TileShape, cheapest_tiles, lines
from qcomp.targets.cpu.emit.tiling import PANEL, Tiling, cheapest_tiling, vector_blocks
from qcomp.targets.cpu.isa import Isa, Tiles

_UNROLLED = 256  # dot products of a tile that need no loop
_TOGETHER = 32  # dot products of one trip of the innermost loop


@dataclass(frozen=True)
class Axis:
    """A loop: how often, and how many bytes source, result and a second source move."""

    count: int
    src: int
    dst: int
    other: int = 0

    def continues(self, inner: Axis) -> bool:
        """Whether the step of this axis is where `inner` ends, so that both are one axis."""
        ends = (inner.src * inner.count, inner.dst * inner.count, inner.other * inner.count)
        return (self.src, self.dst, self.other) == ends

    def times(self, count: int) -> Axis:
        return replace(self, count=self.count * count)


@dataclass(frozen=True)
class GemmSpec:
    """One shape class: the key under which kernels are shared."""

    groups: Axis
    batch: Axis
    rows: Axis
    columns: Axis
    segments: tuple[tuple[int, int], ...]  # nested (count, source stride) around the contiguous run
    length: int  # bytes of the contiguous run
    channels: int  # outputs per group
    form: Form
    ceiling: bool = False  # a fourth table of parameters: min(result, ceiling) per channel
    residual: bool = False  # a fifth pointer: an operand that is added to the result

    @property
    def tables(self) -> int:
        return 4 if self.ceiling else 3

    @property
    def segment_count(self) -> int:
        count = 1
        for n, _ in self.segments:
            count *= n
        return count

    @property
    def steps(self) -> int:
        """Groups of k in one segment."""
        return -(-self.length // GROUP)

    @property
    def panels(self) -> int:
        return -(-self.channels // PANEL)

    @property
    def panel_bytes(self) -> int:
        return self.segment_count * self.steps * PANEL * GROUP


@dataclass(frozen=True)
class GemmPlan:
    """How a layer is cut: its register tiles, and which loop the units of work count."""

    tile: Tiling | TileShape
    blocks: tuple[int, ...]  # vectors of each block of channels, all alike but the last
    pixels: int  # register tiles that cover the pixels of all images

    @property
    def by_channels(self) -> bool:
        """A unit is a block of channels, else the pixels of a register tile."""
        return self.pixels < len(self.blocks)

    @property
    def units(self) -> int:
        return max(self.pixels, len(self.blocks))


def flattened(spec: GemmSpec) -> GemmSpec:
    """Rows and columns as one axis where both tensors step evenly over the row ends."""
    rows, columns = spec.rows, spec.columns
    if rows.count == 1 or rows.continues(columns):
        return replace(spec, rows=Axis(1, 0, 0), columns=columns.times(rows.count))
    return spec


def plan_gemm(spec: GemmSpec, isa: Isa) -> GemmPlan:
    """The cheapest tiles. Threads share the pixels, or the channels where these are more."""
    steps = spec.segment_count * spec.steps
    cost, tile = cheapest_tiling(spec.rows.count, spec.columns.count, spec.channels, steps, isa)
    if isa.tiles is not Tiles.NONE:
        tiles = cheapest_tiles(spec)
        if tiles is not None and tiles[0] < cost * spec.groups.count * spec.batch.count:
            return tile_plan(spec, tiles[1], isa)
    return GemmPlan(tile, tile.blocks, pixel_tiles(spec, tile))


def tile_plan(spec: GemmSpec, shape: TileShape, isa: Isa) -> GemmPlan:
    """The plan for given AMX tiles."""
    blocks = vector_blocks(-(-spec.channels // isa.lanes), shape.wide * PANEL // isa.lanes)
    return GemmPlan(shape, blocks, lines(spec, shape) * shape.blocks)


def pack_weights(weight: NDArray[np.int8], spec: GemmSpec) -> NDArray[np.int8]:
    """One group's [N, segments, length] to [panel][segment][step][16 channels][4], zero-filled."""
    channels, segments, length = weight.shape
    padded = np.zeros((spec.panels * PANEL, segments, spec.steps * GROUP), np.int8)
    padded[:channels, :, :length] = weight
    shaped = padded.reshape(spec.panels, PANEL, segments, spec.steps, GROUP)
    return np.ascontiguousarray(shaped.transpose(0, 2, 3, 1, 4)).reshape(-1)


def pack_channels(values: NDArray[np.int32], spec: GemmSpec) -> NDArray[np.int32]:
    """[N] parameters of one group, padded to whole panels."""
    padded = np.zeros(spec.panels * PANEL, np.int32)
    padded[: len(values)] = values
    return padded


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring vectors of channels that one register tile computes."""

    vectors: int
    channels: int
    dst: Value
    others: Sequence[Value]  # the residual, if there is one
    weights: Value
    epilogue: Epilogue


EmitPixels = Callable[[ir.IRBuilder, Span, Value, Block], None]


def over_blocks(
    b: ir.IRBuilder,
    spec: GemmSpec,
    plan: GemmPlan,
    isa: Isa,
    pointers: Sequence[Value],
    span: Span,
    pixels: EmitPixels,
) -> None:
    """pixels(builder, span of pixels, source, block) for the blocks of channels of all groups.

    Pointers: source, result, weights, parameters, (residual). Parameters are i32: header,
    [group][bias, multiplier, shift, (ceiling)][channel]. Blocks of one size share their code.
    """
    src, dst, weights, params, *others = pointers
    table_bytes = spec.panels * PANEL * 4
    wide = plan.blocks[0] * isa.lanes  # channels of a whole block, whole panels
    whole, rest = divmod(spec.channels, wide)

    def group(g: Value | int) -> None:
        x = at(b, src, multiple(b, g, spec.groups.src))
        results = [at(b, p, multiple(b, g, spec.groups.dst)) for p in (dst, *others)]
        w = at(b, weights, multiple(b, g, spec.panels * spec.panel_bytes))
        tables = at(b, params, plus(b, multiple(b, g, spec.tables * table_bytes), HEADER_BYTES))

        def block(n: Value | int, channels: int, span: Span) -> None:
            first_table = at(b, tables, multiple(b, n, 4 * wide))
            y, *z = (at(b, p, multiple(b, n, wide)) for p in results)
            panels = at(b, w, multiple(b, n, wide // PANEL * spec.panel_bytes))
            epilogue = Epilogue(isa, spec.form, spec.ceiling, params, first_table, table_bytes)
            pixels(b, span, x, Block(-(-channels // isa.lanes), channels, y, z, panels, epilogue))

        if plan.by_channels:
            every = Span(i64(0), i64(plan.pixels))
            span.within(b, 0, whole).loop(b, lambda n: block(n, wide, every), "block")
            if rest:
                span.within(b, whole, 1).loop(b, lambda _: block(whole, rest, every), "rest")
        else:
            loop(b, whole, lambda n: block(n, wide, span), "block")
            if rest:
                block(whole, rest, span)

    loop(b, spec.groups.count, group, "group")


def over_segments(
    b: ir.IRBuilder,
    spec: GemmSpec,
    carried: Carried,
    body: Callable[[Value | int, Value | int, Carried], Carried],
    *,
    unrolled: bool,
) -> Carried:
    """body(offset in the source, in a panel's weights, values) for each segment."""

    def nested(level: int, x: Value | int, w: Value | int, values: Carried) -> Carried:
        if level == len(spec.segments):
            return body(x, w, values)
        count, stride = spec.segments[level]
        inner = spec.steps * PANEL * GROUP
        for n, _ in spec.segments[level + 1 :]:
            inner *= n

        def segment(s: Value | int, values: Carried) -> Carried:
            x_next = plus(b, x, multiple(b, s, stride))
            return nested(level + 1, x_next, plus(b, w, multiple(b, s, inner)), values)

        return repeated(b, count, values, segment, count if unrolled else 1)

    return nested(0, 0, 0, carried)


@dataclass(frozen=True)
class Gemm:
    """Emits the kernel of one shape class in vector registers."""

    spec: GemmSpec
    plan: GemmPlan
    isa: Isa

    @property
    def dot(self) -> DotProduct:
        return DotProduct(self.isa)

    @property
    def tile(self) -> Tiling:
        assert isinstance(self.plan.tile, Tiling)
        return self.plan.tile

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Units [begin, end); pointers of `over_blocks`."""
        over_blocks(b, self.spec, self.plan, self.isa, pointers, Span(begin, end), self._pixels)
        b.ret_void()

    def _pixels(self, b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
        """The tiles of pixels of a span, one after the other."""
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
        start = [self.dot.start(b, block.epilogue.bias(b, v)) for v in range(block.vectors)]
        sums = self._sums(b, pixels, block, start * len(grid))
        done = [self.dot.finish(b, acc) for acc in sums]
        by_pixel = [done[i : i + block.vectors] for i in range(0, len(done), block.vectors)]
        added = [
            at(b, p, r * spec.rows.other + c * spec.columns.other) for p in others for r, c in grid
        ]
        block.epilogue.store(b, by_pixel, results, block.channels, added)

    def _sums(
        self,
        b: ir.IRBuilder,
        pixels: Sequence[Value],
        block: Block,
        start: Sequence[Accumulator],
    ) -> list[Accumulator]:
        """sums[pixel * vectors + vector] over all segments; weights advance linearly."""
        spec, parts = self.spec, self.dot.parts
        unrolled = spec.segment_count * spec.steps * len(start) <= _UNROLLED

        def steps(x: Value | int, w: Value | int, sums: Sequence[Value]) -> Sequence[Value]:
            def step(k: Value | int, sums: Sequence[Value]) -> Sequence[Value]:
                return self._step(
                    b,
                    [at(b, p, plus(b, x, multiple(b, k, GROUP))) for p in pixels],
                    at(b, block.weights, plus(b, w, multiple(b, k, PANEL * GROUP))),
                    sums,
                )

            together = spec.steps if unrolled else max(1, _TOGETHER // len(start))
            return repeated(b, spec.steps, sums, step, together)

        flat = [v for acc in start for v in acc]
        flat = list(over_segments(b, spec, flat, steps, unrolled=unrolled))
        return [tuple(flat[i : i + parts]) for i in range(0, len(flat), parts)]

    def _step(
        self, b: ir.IRBuilder, pixels: Sequence[Value], weights: Value, sums: Sequence[Value]
    ) -> list[Value]:
        """One group of k, for each pixel and vector."""
        dot, parts = self.dot, self.dot.parts
        vectors = len(sums) // parts // len(pixels)
        w = [dot.weights(b, at(b, weights, self._vector(v))) for v in range(vectors)]
        result: list[Value] = []
        for m, p in enumerate(pixels):
            x = dot.same(b, p)
            for v in range(vectors):
                first = (m * vectors + v) * parts
                result += dot.add(b, tuple(sums[first : first + parts]), x, w[v])
        return result

    def _vector(self, v: int) -> int:
        """Where the weights of a block's vector lie, within one step."""
        panel, channel = divmod(v * self.isa.lanes, PANEL)
        return panel * self.spec.panel_bytes + channel * GROUP


def pixel_tiles(spec: GemmSpec, tile: Tiling) -> int:
    rows, columns = -(-spec.rows.count // tile.rows), -(-spec.columns.count // tile.columns)
    return spec.batch.count * rows * columns


def repeated(
    b: ir.IRBuilder,
    count: int,
    carried: Carried,
    body: Callable[[Value | int, Carried], Carried],
    together: int,
) -> Carried:
    """`count` times, `together` times in straight code per trip of the loop."""
    trips, rest = divmod(count, min(together, count))
    together = min(together, count)

    def trip(n: Value | int, values: Carried) -> Carried:
        for k in range(together):
            values = body(plus(b, multiple(b, n, together), k), values)
        return values

    values: Carried = repeat(b, trips, carried, trip, "k")
    for k in range(rest):
        values = body(trips * together + k, values)
    return values
