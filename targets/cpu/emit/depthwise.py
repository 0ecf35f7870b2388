"""Depthwise convolution of any kernel, stride and dilation: interleaved rows, four taps at once.

A tile is a few rows and columns of results for the channels of one vector of bytes. Each source
column that it needs is loaded and interleaved once, and serves all results that have it under
their kernel. Sums of channels in the order of the unpacks become bytes in the natural order.

Meaning: qcomp.ir.evaluate.integer (QConv2d with one input channel per group).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import (
    I8,
    Value,
    at,
    divided,
    load,
    loop,
    multiple,
    overlapped,
    plus,
    raw,
    vector,
)
from qcomp.targets.cpu.emit.depthwise_layout import (
    BLOCK,
    LANE,
    DepthwiseSpec,
    Taps,
    block_bytes,
    blocks_of,
)
from qcomp.targets.cpu.emit.depthwise_tiling import (
    Run,
    plan_taps,
    runs_of,
    source_columns,
    tile_columns,
)
from qcomp.targets.cpu.emit.dot import GROUP, DotProduct
from qcomp.targets.cpu.emit.epilogue import HEADER_BYTES, Epilogue
from qcomp.targets.cpu.emit.interleave import interleaved, joined
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.isa import Isa

_VECTORS = LANE // GROUP  # of sums, for each vector of bytes
_VECTOR_BYTES = BLOCK // _VECTORS * 4  # of weights, or of the entries of a table, of a whole block


@dataclass(frozen=True, eq=False)
class _Channels:
    """One piece: the layer's parameters, and where its own weights and table entries begin."""

    run: Run
    params: Value
    weights: Value
    tables: Value


@dataclass(frozen=True)
class Depthwise:
    """Emits the kernel of one shape class. Its units are strips of rows, or pieces of channels."""

    spec: DepthwiseSpec
    isa: Isa

    @property
    def taps(self) -> Taps:
        return plan_taps(self.spec)

    @property
    def runs(self) -> tuple[Run, ...]:
        return runs_of(self.spec.channels, self.isa)

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
        block, offset = divided(b, position, BLOCK)
        tables = plus(b, multiple(b, block, 4 * BLOCK), offset)
        channels = _Channels(
            run,
            params,
            at(b, weights, plus(b, multiple(b, block, block_bytes(spec, self.taps)), offset)),
            at(b, params, plus(b, tables, HEADER_BYTES)),
        )
        self._columns(b, at(b, src, channel), at(b, dst, channel), channels)

    def _columns(self, b: ir.IRBuilder, src: Value, dst: Value, channels: _Channels) -> None:
        """All tiles of one strip. The parts of a vector lie side by side, `wide` columns each."""
        spec, parts = self.spec, channels.run.parts
        count = spec.columns.count
        wide = tile_columns(spec, self.taps, self.isa, channels.run)
        extent = min(wide * parts, count)
        starts = [min(part * wide, count - wide) for part in range(parts)]

        def tile(n: Value | int) -> None:
            x = overlapped(b, n, extent, count)
            from_, to = (
                [at(b, p, plus(b, multiple(b, x, step), start * step)) for start in starts]
                for p, step in ((src, spec.columns.src), (dst, spec.columns.dst))
            )
            self._tile(b, from_, to, wide, channels)

        loop(b, -(-count // extent), tile, "tile")

    def _tile(
        self,
        b: ir.IRBuilder,
        src: Sequence[Value],
        dst: Sequence[Value],
        columns: int,
        channels: _Channels,
    ) -> None:
        """A result is stored as soon as its last source column is added."""
        spec, taps, dot = self.spec, self.taps, DotProduct(self.isa)
        table_bytes = len(blocks_of(spec.channels)) * 4 * BLOCK
        epilogue = Epilogue(
            self.isa, spec.form, spec.ceiling, channels.params, channels.tables, table_bytes,
            vector_bytes=_VECTOR_BYTES,
        )  # fmt: skip
        sums: dict[tuple[int, int], list[Value | None]] = {
            (row, column): [None] * _VECTORS
            for row in range(taps.rows)
            for column in range(columns)
        }
        for offset, served in source_columns(spec, columns).items():
            for g, group in enumerate(taps.groups):
                rows = [self._pixels(b, src, offset + row) for row in group]
                for v, quarter in enumerate(interleaved(b, rows)):
                    x = dot.apart(b, quarter)
                    for column, k in served:
                        for n, row in ((n, r) for n, (of, r) in enumerate(taps.pairs) if of == g):
                            at_v = ((n * spec.kernel[1] + k) * _VECTORS + v) * _VECTOR_BYTES
                            before = sums[row, column][v]
                            start = epilogue.bias(b, v) if before is None else before
                            w = at(b, channels.weights, at_v)
                            sums[row, column][v] = dot.add_apart(b, start, x, w)
            for column in (column for column, k in served if k == spec.kernel[1] - 1):
                for row in range(taps.rows):
                    to = row * spec.rows.dst + column * spec.columns.dst
                    pixels = [at(b, p, to) for p in dst]
                    epilogue.store_interleaved(
                        b, sums.pop((row, column)), pixels, channels.run.channels
                    )

    def _pixels(self, b: ir.IRBuilder, src: Sequence[Value], offset: int) -> Value:
        """The stored bytes of one pixel of each part."""
        bytes_ = vector(I8, 4 * self.isa.lanes // len(src))
        return joined(b, [load(b, at(b, raw(p), offset), bytes_) for p in src])
