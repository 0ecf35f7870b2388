"""Depthwise convolution of any kernel, stride and dilation: the loops around its tiles.

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d with one input channel per group).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    Carried,
    Value,
    at,
    divided,
    loop,
    multiple,
    overlapped,
    plus,
    repeat,
)
from qcomp.targets.cpu.emit.depthwise_tile import Channels, Column, DepthwiseTile
from qcomp.targets.cpu.emit.epilogue import Epilogue
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.turns import in_turns
from qcomp.targets.cpu.kernels.constants import header_bytes
from qcomp.targets.cpu.kernels.depthwise_layout import DepthwiseSpec, Taps, block_bytes
from qcomp.targets.cpu.kernels.depthwise_tiling import Run, Tile, plan_taps, runs_of, tile_of
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True)
class Depthwise:
    """Emits the kernel of one shape class. Its units are strips of rows, or pieces of channels."""

    spec: DepthwiseSpec
    isa: Isa

    @property
    def taps(self) -> Taps:
        return plan_taps(self.spec, self.isa.machine.depthwise.layout)

    @property
    def rows(self) -> int:
        """Of a tile."""
        return self.taps.rows

    @property
    def runs(self) -> tuple[Run, ...]:
        return runs_of(self.spec, self.isa.machine.vectors)

    @property
    def strips_per_image(self) -> int:
        return -(-self.spec.rows.count // self.taps.rows)

    @property
    def strips(self) -> int:
        return self.spec.batch.count * self.strips_per_image

    @property
    def by_channels(self) -> bool:
        return self.units > self.strips

    @property
    def units(self) -> int:
        """Threads share what there is more of."""
        return max(self.strips, sum(run.count for run in self.runs))

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Units [begin, end) of the layer. Pointers: source, result, weights, parameters.

        Parameters are i32: header, [bias, multiplier, shift, (ceiling)][block][64 entries].
        """
        span = Span(begin, end)
        if self.by_channels:
            first = 0
            for run in self.runs:
                part = span.within(b, first, run.count)
                part.loop(b, partial(self._all_strips, b, pointers, run), "piece")
                first += run.count
        else:
            span.loop(b, partial(self._all_pieces, b, pointers), "strip")
        b.ret_void()

    def _all_strips(self, b: ir.IRBuilder, pointers: Sequence[Value], run: Run, n: Value) -> None:
        loop(b, self.strips, lambda strip: self._strip(b, pointers, run, n, strip), "strip")

    def _all_pieces(self, b: ir.IRBuilder, pointers: Sequence[Value], strip: Value) -> None:
        for run in self.runs:
            one = partial(self._strip, b, pointers, run, strip=strip)
            loop(b, run.count, one, "piece")

    def _strip(
        self,
        b: ir.IRBuilder,
        pointers: Sequence[Value],
        run: Run,
        n: Value | int,
        strip: Value | int,
    ) -> None:
        """One tile of rows, all columns, piece `n` of a run."""
        spec, size = self.spec, 4 * self.isa.lanes
        src, dst, weights, params = pointers
        if run.count == 1:
            n = 0
        image, row = divided(b, strip, self.strips_per_image)
        y = overlapped(b, row, self.taps.rows, spec.rows.count)
        channel = plus(b, run.channel, multiple(b, n, size))
        for index, axis in ((image, spec.batch), (y, spec.rows)):
            src, dst = (
                at(b, p, multiple(b, index, step)) for p, step in ((src, axis.src), (dst, axis.dst))
            )
        position = plus(b, run.position, multiple(b, n, size))
        whole = spec.layout.block
        block, offset = divided(b, position, whole)
        tables = plus(b, multiple(b, block, 4 * whole), offset)
        channels = Channels(
            run,
            params,
            at(b, weights, plus(b, multiple(b, block, block_bytes(spec, self.taps)), offset)),
            at(b, params, plus(b, tables, header_bytes(lookup=self.spec.lookup))),
        )
        self._columns(b, at(b, src, channel), at(b, dst, channel), channels)

    def _columns(self, b: ir.IRBuilder, src: Value, dst: Value, channels: Channels) -> None:
        """All tiles of one strip. The parts of a vector lie side by side, each some columns."""
        spec, parts = self.spec, channels.run.parts
        count = spec.columns.count
        tile = tile_of(spec, self.taps, self.isa.machine.depthwise.tiles, channels.run)
        extent = min(tile.columns * parts, count)
        starts = [min(part * tile.columns, count - tile.columns) for part in range(parts)]
        emitter = DepthwiseTile(spec, self.isa, self.taps, channels)
        epilogue = emitter.kept_epilogue(b)

        def one(n: Value | int) -> None:
            x = overlapped(b, n, extent, count)
            from_, to = (
                [at(b, p, plus(b, multiple(b, x, step), start * step)) for start in starts]
                for p, step in ((src, spec.columns.src), (dst, spec.columns.dst))
            )
            if tile.unrolled:
                emitter.emit(b, from_, to, tile.columns, epilogue, {})
            else:
                emitter.emit_looped(b, from_, to)

        if tile.carried:
            self._carried(b, src, dst, tile, emitter, epilogue)
        else:
            loop(b, -(-count // extent), one, "tile")

    def _carried(
        self,
        b: ir.IRBuilder,
        src: Value,
        dst: Value,
        tile: Tile,
        emitter: DepthwiseTile,
        epilogue: Epilogue,
    ) -> None:
        """Tiles one after the other, each with source columns of the one before."""
        axis, groups = self.spec.columns, len(self.taps.groups)
        whole, rest = divmod(axis.count, tile.columns)
        step = tile.columns * axis.src

        def flat(columns: Sequence[Column]) -> list[Value]:
            return [value for column in columns for group in column for value in group]

        def one(n: Value | int, values: Carried, columns: int = tile.columns) -> list[Value]:
            steps = ((src, axis.src), (dst, axis.dst))
            from_, to = (at(b, p, multiple(b, n, tile.columns * each)) for p, each in steps)
            found = emitter.emit(b, [from_], [to], columns, epilogue, by_offset(values))
            return flat([found[offset + step] for offset in tile.carried if offset + step in found])

        def by_offset(values: Carried) -> dict[int, Column]:
            each = len(values) // len(tile.carried)
            size = each // groups
            return {
                offset: [values[i + g * size : i + (g + 1) * size] for g in range(groups)]
                for i, offset in zip(range(0, len(values), each), tile.carried, strict=True)
            }

        first = flat([emitter.column(b, [src], offset) for offset in tile.carried])
        if tile.turns > 1 and not rest:
            in_turns(b, whole, first, one, tile.turns, "tile")
            return
        last = repeat(b, whole, first, one, "tile")
        if rest:
            one(whole, last, rest)
