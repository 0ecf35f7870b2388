"""One tile of a depthwise convolution: a few rows and columns, the channels of a vector of bytes.

Each source column that the tile needs is loaded and interleaved once, and serves all results that
have it under their kernel. Sums in the order of the interleaving become bytes in natural order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    Value,
    at,
    load,
    multiple,
    plus,
    raw,
    repeat,
    vector,
)
from qcomp.targets.cpu.emit.epilogue import Epilogue
from qcomp.targets.cpu.emit.interleave import interleaved, joined
from qcomp.targets.cpu.emit.narrow import BlockParameters
from qcomp.targets.cpu.kernels.depthwise_layout import LANE, DepthwiseSpec, Taps, blocks_of
from qcomp.targets.cpu.kernels.depthwise_tiling import Run, source_columns
from qcomp.targets.cpu.kernels.gemm import GROUP
from qcomp.targets.cpu.machine import Isa

_VECTORS = LANE // GROUP  # of sums, for each vector of bytes

Column = Sequence[Sequence[Value]]  # of one source column: [group of rows][vector]
Sums = list[Value]  # of one result column: [row * _VECTORS + vector]


@dataclass(frozen=True, eq=False)
class Channels:
    """One piece: the layer's parameters, and where its own weights and table entries begin."""

    run: Run
    params: Value
    weights: Value
    tables: Value


@dataclass(frozen=True)
class DepthwiseTile:
    """Emits tiles. Source and result are pointers to the first pixel of each part of a vector."""

    spec: DepthwiseSpec
    isa: Isa
    taps: Taps
    channels: Channels

    def emit(
        self,
        b: ir.IRBuilder,
        src: Sequence[Value],
        dst: Sequence[Value],
        columns: int,
        epilogue: Epilogue,
        known: Mapping[int, Column],
    ) -> dict[int, Column]:
        """Results are stored as soon as their last source column is added.

        `known` are source columns by their offsets; returns all that the tile has.
        """
        sums: dict[int, Sums] = {}
        found: dict[int, Column] = {}
        for offset, served in source_columns(self.spec, columns).items():
            for column, k in served:
                if k == 0:
                    sums[column] = self._start(b, epilogue)
            there = known.get(offset)
            source = partial(self._group, b, src, offset) if there is None else there.__getitem__
            found[offset] = self._add(b, source, served, sums)
            for column, k in served:
                if k == self.spec.kernel[1] - 1:
                    to = [at(b, p, column * self.spec.columns.dst) for p in dst]
                    self._store(b, epilogue, sums.pop(column), to)
        return found

    def emit_looped(self, b: ir.IRBuilder, src: Sequence[Value], dst: Sequence[Value]) -> None:
        """One column, by a loop over the columns of the kernel."""

        def step(k: Value | int, before: Sequence[Value]) -> Sums:
            sums = {0: list(before)}
            source = partial(self._group, b, src, multiple(b, k, self.spec.steps[1]))
            self._add(b, source, [(0, k)], sums)
            return sums[0]

        start = self._start(b, self.epilogue())
        done = repeat(b, self.spec.kernel[1], start, step, "kx")
        self._store(b, self.epilogue(), done, dst)

    def kept_epilogue(self, b: ir.IRBuilder) -> Epilogue:
        """For all tiles of one place of the code, with what a machine keeps for these."""
        epilogue = self.epilogue()
        epilogue.keep(b, _VECTORS)
        return epilogue

    def epilogue(self) -> Epilogue:
        """For one place of the code: constants are loaded once."""
        spec, channels = self.spec, self.channels
        block = BlockParameters(
            header=channels.params,
            tables=channels.tables,
            table_bytes=len(blocks_of(spec.channels, spec.layout)) * 4 * spec.layout.block,
            vector_bytes=self._vector_bytes,
            lanes=self.isa.lanes,
            ceiling=spec.ceiling,
            lookup=spec.lookup,
            clamped=spec.clamped,
            repeated=1,
            rectified=spec.rectified,
            shifts_right=spec.shifts_right,
        )
        return Epilogue(self.isa, spec.form, block, self.isa.machine.narrow)

    @property
    def _vector_bytes(self) -> int:
        """Of weights, or of the entries of a table, of one vector of a whole block."""
        return self.spec.layout.block // _VECTORS * 4

    def _start(self, b: ir.IRBuilder, epilogue: Epilogue) -> Sums:
        return [v for _ in range(self.taps.rows) for v in epilogue.start(b, _VECTORS, 1)]

    def column(self, b: ir.IRBuilder, src: Sequence[Value], offset: int) -> Column:
        """A source column."""
        return [self._group(b, src, offset, group) for group in range(len(self.taps.groups))]

    def _group(
        self, b: ir.IRBuilder, src: Sequence[Value], offset: Value | int, group: int
    ) -> Sequence[Value]:
        rows = self.taps.groups[group]
        return interleaved(b, [self._pixels(b, src, plus(b, offset, row)) for row in rows])

    def _add(
        self,
        b: ir.IRBuilder,
        source: Callable[[int], Sequence[Value]],
        served: Sequence[tuple[int, Value | int]],
        sums: dict[int, Sums],
    ) -> Column:
        """The groups of a source column to the sums of all (result column, kx) that it serves."""
        dot = self.isa.machine.dot
        found = []
        for g in range(len(self.taps.groups)):
            pairs = [(n, row) for n, (of, row) in enumerate(self.taps.pairs) if of == g]
            found.append(source(g))
            for v, quarter in enumerate(found[g]):
                x = dot.apart(b, quarter)
                for column, k in served:
                    for n, row in pairs:
                        index, w = row * _VECTORS + v, dot.weights(b, self._weights(b, n, k, v))
                        sums[column][index] = dot.add(b, sums[column][index], x, w)
        return found

    def _pixels(self, b: ir.IRBuilder, src: Sequence[Value], offset: Value | int) -> Value:
        """The stored bytes of one pixel of each part."""
        bytes_ = vector(I8, 4 * self.isa.lanes // len(src))
        return joined(b, [load(b, at(b, raw(p), offset), bytes_) for p in src])

    def _weights(self, b: ir.IRBuilder, pair: int, k: Value | int, v: int) -> Value:
        """Of a pair of taps, in the order of Taps.pairs, at column k of the kernel."""
        first = pair * self.spec.kernel[1] * _VECTORS + v
        inner = multiple(b, k, _VECTORS * self._vector_bytes)
        return at(b, self.channels.weights, plus(b, inner, first * self._vector_bytes))

    def _store(self, b: ir.IRBuilder, epilogue: Epilogue, sums: Sums, dst: Sequence[Value]) -> None:
        for row in range(self.taps.rows):
            four = sums[row * _VECTORS : (row + 1) * _VECTORS]
            to = [at(b, p, row * self.spec.rows.dst) for p in dst]
            epilogue.store_interleaved(b, four, to, self.channels.run.channels)
