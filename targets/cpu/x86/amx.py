"""GEMMs in tile registers: the same epilogue as in vector registers.

16 steps of one packed panel of weights are a tile as they lie; those of few bits are unpacked to
the stack first. A tile of activations is as many pixels, which lie evenly in the source. The sums
go through memory to the epilogue in vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    I64,
    Carried,
    Value,
    at,
    divided,
    i64,
    load,
    loop,
    multiple,
    overlapped,
    plus,
    raw,
    vector,
)
from qcomp.targets.cpu.emit.gemm_blocks import Block, EmitPixels, over_blocks, over_segments
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.stack import stack
from qcomp.targets.cpu.emit.unpacked import over_unpacked, unpacked
from qcomp.targets.cpu.kernels.gemm import BY_FOURS, GemmPlan, GemmSpec, Packing, Touched
from qcomp.targets.cpu.kernels.tiling import vector_blocks
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.x86.tile_cost import (
    TileShape,
    cheapest_tiles,
    lines,
    tile_cost,
    touched,
    unpacked_bytes,
)
from qcomp.targets.cpu.x86.tiles import ROW_BYTES, Tile, Tiles, TileUnit, configured


@dataclass(frozen=True)
class TileGemms:
    """The family of kernels in tile registers; it takes layers of 16 pixels and more."""

    tiles: Tiles
    packing: Packing = BY_FOURS  # 16 steps of a panel are a tile as they lie

    def kernel(self, spec: GemmSpec, isa: Isa) -> TileGemm | None:
        """The one with the cheapest tiles."""
        found = cheapest_tiles(spec)
        return None if found is None else self.shaped(spec, found[1], isa)

    def shaped(self, spec: GemmSpec, shape: TileShape, isa: Isa) -> TileGemm:
        """The one with given tiles."""
        wide = shape.wide * spec.packing.panel // isa.lanes
        blocks = vector_blocks(-(-spec.channels // isa.lanes), wide)
        pixels = lines(spec, shape) * shape.blocks
        plan = GemmPlan(shape, blocks, pixels, tile_cost(spec, shape))
        return TileGemm(spec, plan, isa, self.tiles)


@dataclass(frozen=True)
class _Registers:
    """Sums [high][wide]; activations [high] and weights [wide] of a chunk, and of the rest."""

    sums: tuple[tuple[Tile, ...], ...]
    chunk: tuple[tuple[Tile, ...], tuple[Tile, ...]]
    rest: tuple[tuple[Tile, ...], tuple[Tile, ...]]

    @staticmethod
    def of(shape: TileShape) -> _Registers:
        used = 0

        def some(count: int, rows: int, row_bytes: int) -> tuple[Tile, ...]:
            nonlocal used
            used += count
            return tuple(Tile(n, rows, row_bytes) for n in range(used - count, used))

        def inputs(steps: int) -> tuple[tuple[Tile, ...], tuple[Tile, ...]]:
            if not steps:
                return (), ()
            a = some(shape.high, shape.rows, 4 * steps)
            return a, some(shape.wide, steps, ROW_BYTES)

        sums = tuple(some(shape.wide, shape.rows, ROW_BYTES) for _ in range(shape.high))
        return _Registers(sums, inputs(shape.chunk), inputs(shape.rest))

    @property
    def all(self) -> tuple[Tile, ...]:
        groups = (*self.sums, *self.chunk, *self.rest)
        return tuple(tile for group in groups for tile in group)


@dataclass(frozen=True, eq=False)
class _Unit:
    """What a kernel computes with: the configured tiles, and memory for the sums of one block."""

    tiles: TileUnit
    registers: _Registers
    sums: Value


@dataclass(frozen=True)
class TileGemm:
    """Emits the kernel of one shape class in tile registers."""

    spec: GemmSpec
    plan: GemmPlan[TileShape]
    isa: Isa
    tiles: Tiles

    @property
    def shape(self) -> TileShape:
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
        return touched(self.spec, self.shape, self.plan.pixels)

    @property
    def pixel_bytes(self) -> int:
        """The sums of one position, in memory."""
        return self.shape.wide * ROW_BYTES

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Units [begin, end); pointers of `over_blocks`. The tiles are released at the end."""
        registers = _Registers.of(self.shape)
        sums = stack(b, self.shape.block * self.pixel_bytes)
        unit = _Unit(configured(b, self.tiles, registers.all), registers, sums)
        pixels: EmitPixels = partial(self._lines, unit)
        if self.spec.weight_bits < 8:
            memory = stack(b, unpacked_bytes(self.spec, self.shape.wide))
            pixels = over_unpacked(self.spec, memory, self.isa.vector_bits // 8, pixels)
        over_blocks(b, self.spec, self.plan, self.isa, pointers, Span(begin, end), pixels)
        unit.tiles.release(b)
        b.ret_void()

    def _lines(self, unit: _Unit, b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
        """The blocks of positions of a span, one after the other."""
        spec, shape = self.spec, self.shape

        def one(index: Value) -> None:
            line, n = divided(b, index, shape.blocks)
            start = overlapped(b, n, shape.block, shape.line)
            image, row = (line, 0) if shape.flat else divided(b, line, spec.rows.count)
            x, to = src, [block.dst, *block.others]
            for i, axis in ((image, spec.batch), (row, spec.rows)):
                x = at(b, x, multiple(b, i, axis.src))
                steps = [axis.dst, *[axis.other] * len(block.others)]
                to = [at(b, p, multiple(b, i, step)) for p, step in zip(to, steps, strict=True)]
            self._products(unit, b, at(b, raw(x), multiple(b, start, spec.columns.src)), block)
            self._finish(unit, b, start, to, block)

        span.loop(b, one, "block")

    def _products(self, unit: _Unit, b: ir.IRBuilder, src: Value, block: Block) -> None:
        """The sums of one block, bias included, to memory."""
        spec, shape, tiles = unpacked(self.spec), self.shape, unit.tiles
        group = spec.packing.group
        wide = -(-block.vectors * self.isa.lanes // spec.packing.panel)
        firsts = [min(i * shape.rows, shape.block - shape.rows) for i in range(shape.high)]
        sums = [row[:wide] for row in unit.registers.sums]
        for row in sums:
            for j, c in enumerate(row):
                tiles.load(b, c, at(b, block.epilogue.block.tables, j * ROW_BYTES), 0)

        def steps(
            inputs: tuple[tuple[Tile, ...], tuple[Tile, ...]], x: Value | int, w: Value | int
        ) -> None:
            for i, a in enumerate(inputs[0]):
                place = plus(b, x, firsts[i] * spec.columns.src)
                tiles.load(b, a, at(b, src, place), spec.columns.src)
                for j, weights in enumerate(inputs[1][:wide]):
                    if i == 0:
                        place = plus(b, w, j * spec.panel_bytes)
                        tiles.load(b, weights, at(b, block.weights, place), ROW_BYTES)
                    tiles.dot(b, sums[i][j], a, weights)

        def segment(x: Value | int, w: Value | int, _: Carried) -> Carried:
            def chunk(n: Value | int) -> None:
                k = plus(b, x, multiple(b, n, shape.chunk * group))
                steps(unit.registers.chunk, k, plus(b, w, multiple(b, n, shape.chunk * ROW_BYTES)))

            loop(b, shape.chunks, chunk, "chunk")
            done = shape.chunks * shape.chunk
            steps(unit.registers.rest, plus(b, x, done * group), plus(b, w, done * ROW_BYTES))
            return ()

        over_segments(b, spec, (), segment, unrolled=False)
        for first, row in zip(firsts, sums, strict=True):
            for j, c in enumerate(row):
                place = at(b, unit.sums, first * self.pixel_bytes + j * ROW_BYTES)
                tiles.store(b, c, place, self.pixel_bytes)

    def _finish(
        self, unit: _Unit, b: ir.IRBuilder, start: Value | int, to: Sequence[Value], block: Block
    ) -> None:
        """From sums in memory to the results of a line's pixels, of which `to` is the first."""
        shape = self.shape
        if shape.flat:
            self._finish_flat(unit, b, start, to, block)
            return
        steps = [step for step, _ in self._steps(block)]

        def some(n: Value | int) -> None:
            first = overlapped(b, n, shape.together, shape.block)
            firsts = (first, *[plus(b, start, first)] * len(to))
            places = [
                [at(b, p, multiple(b, plus(b, index, i), step)) for i in range(shape.together)]
                for p, index, step in zip((unit.sums, *to), firsts, steps, strict=True)
            ]
            self._store(b, places, block)

        loop(b, -(-shape.block // shape.together), some, "pixels")

    def _finish_flat(
        self, unit: _Unit, b: ir.IRBuilder, start: Value | int, to: Sequence[Value], block: Block
    ) -> None:
        """The positions that are pixels; blocks have different numbers of them."""
        spec, shape, columns = self.spec, self.shape, self.spec.columns.count
        first = self._pixels_before(b, start)
        end = self._pixels_before(b, plus(b, start, shape.block))
        last = b.sub(_value(end), i64(shape.together))
        rows = [spec.rows.dst, *[spec.rows.other] * len(block.others)]
        steps = self._steps(block)

        def some(n: Value) -> None:
            own = _value(plus(b, first, b.mul(n, i64(shape.together))))
            pixel = b.select(b.icmp_signed("<", own, last), own, last)
            row, column = divided(b, pixel, columns)
            position = b.sub(_value(plus(b, multiple(b, row, shape.pitch), column)), _value(start))
            offsets: list[Value | int] = [b.mul(position, i64(self.pixel_bytes))]
            for in_row, (step, _) in zip(rows, steps[1:], strict=True):
                offsets.append(plus(b, multiple(b, row, in_row), multiple(b, column, step)))
            now = [at(b, p, offset) for p, offset in zip((unit.sums, *to), offsets, strict=True)]
            places = [now]
            column = _value(column)
            for _ in range(shape.together - 1):
                # Masks: LLVM would make branches of selects here, which can't be predicted.
                is_last = b.icmp_signed("==", column, i64(columns - 1))
                ends, goes_on = b.sext(is_last, I64), b.sext(b.not_(is_last), I64)
                column = b.and_(b.add(column, i64(1)), goes_on)
                moves = (plus(b, b.and_(ends, i64(jump - step)), step) for step, jump in steps)
                places.append([at(b, p, move) for p, move in zip(places[-1], moves, strict=True)])
            self._store(b, [list(of_one) for of_one in zip(*places, strict=True)], block)

        count = b.sub(_value(end), _value(first))
        trips = b.udiv(b.add(count, i64(shape.together - 1)), i64(shape.together))
        Span(i64(0), trips).loop(b, some, "pixels")

    def _steps(self, block: Block) -> list[tuple[int, int]]:
        """Bytes to the next pixel in a row, and from a row to the next, in sums and in lines."""
        rows, columns = self.spec.rows, self.spec.columns
        back = columns.count - 1
        in_lines = [(rows.dst, columns.dst), *[(rows.other, columns.other)] * len(block.others)]
        return [
            (self.pixel_bytes, (self.shape.pitch - back) * self.pixel_bytes),
            *((column, row - back * column) for row, column in in_lines),
        ]

    def _store(self, b: ir.IRBuilder, places: Sequence[Sequence[Value]], block: Block) -> None:
        """Requantize pixels: where their sums are, where results go, and the residuals are."""
        lanes = self.isa.lanes
        sums, results, *others = places
        loaded = [
            [load(b, at(b, p, 4 * lanes * v), vector(I32, lanes)) for v in range(block.vectors)]
            for p in sums
        ]
        block.epilogue.store(b, loaded, results, block.channels, *others)

    def _pixels_before(self, b: ir.IRBuilder, position: Value | int) -> Value | int:
        """`pixels_before` of tile_cost, of a position that may be known at run time only."""
        columns = self.spec.columns.count
        row, column = divided(b, position, self.shape.pitch)
        if isinstance(column, int):
            column = min(column, columns)
        else:
            column = b.select(b.icmp_signed("<", column, i64(columns)), column, i64(columns))
        return plus(b, multiple(b, row, columns), column)


def _value(x: Value | int) -> Value:
    return i64(x) if isinstance(x, int) else x
