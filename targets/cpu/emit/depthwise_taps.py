"""Depthwise convolution tap by tap, for machines that multiply bytes to 16 bits and add those.

The products of two taps fit 16 bits where no weight is -128, and are added to the sums together.
Channels are cut in vectors of 16 or 8, the last moved back; a tile is a few columns of one row,
the last one those that are left.

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d with one input channel per group).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Carried,
    Value,
    at,
    divided,
    load,
    loop,
    multiple,
    overlapped,
    plus,
    raw,
    repeat,
    shuffle,
    vector,
)
from qcomp.targets.cpu.emit.epilogue import Epilogue
from qcomp.targets.cpu.emit.narrow import BlockParameters
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.constants import header_bytes
from qcomp.targets.cpu.kernels.depthwise_layout import DepthwiseSpec
from qcomp.targets.cpu.machine import Isa

_WIDE, _NARROW = 16, 8  # channels of a vector
_COLUMNS = 2  # of a tile
_STRAIGHT = 32  # taps that need no loop

Tap = tuple[int, int]  # row and column of the kernel


def in_vectors(channels: int) -> int:
    """Entries of the tables, and bytes of each tap's weights."""
    return max(channels, _NARROW)


def pack_taps(weight: Array) -> NDArray[np.int8]:
    """[channel, kh, kw] to [kh][kw][channel], at least a vector of channels."""
    channels, height, width = weight.shape
    packed = np.zeros((height, width, in_vectors(channels)), np.int8)
    packed[..., :channels] = weight.transpose(1, 2, 0)
    return packed.reshape(-1)


def pack_tap_tables(tables: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """[table][channel], at least a vector of channels."""
    count = len(tables[0])
    return np.concatenate([np.pad(table, (0, in_vectors(count) - count)) for table in tables])


@dataclass(frozen=True)
class DepthwiseTaps:
    """Emits the kernel of one shape class. Its units are rows, or vectors of channels."""

    spec: DepthwiseSpec
    isa: Isa
    rows: int = 1  # of a tile

    @property
    def width(self) -> int:
        return _WIDE if self.spec.channels >= _WIDE else _NARROW

    @property
    def pieces(self) -> int:
        return -(-self.spec.channels // self.width)

    @property
    def columns(self) -> int:
        return min(_COLUMNS, self.spec.columns.count)

    @property
    def strips(self) -> int:
        return self.spec.batch.count * self.spec.rows.count

    @property
    def by_channels(self) -> bool:
        return self.pieces > self.strips

    @property
    def units(self) -> int:
        """Threads share what there is more of."""
        return max(self.strips, self.pieces)

    @cached_property
    def taps(self) -> list[Tap]:
        height, width = self.spec.kernel
        return list(product(range(height), range(width)))

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Units [begin, end) of the layer. Pointers: source, result, weights, parameters.

        Parameters are i32: header, [bias, multiplier, shift, (ceiling)][channel].
        """
        span = Span(begin, end)
        one = partial(self._strip, b, pointers)
        if self.by_channels:
            span.loop(b, lambda n: loop(b, self.strips, partial(one, n), "strip"), "piece")
        else:
            span.loop(b, lambda s: loop(b, self.pieces, lambda n: one(n, s), "piece"), "strip")
        b.ret_void()

    def _strip(
        self, b: ir.IRBuilder, pointers: Sequence[Value], piece: Value | int, strip: Value | int
    ) -> None:
        """One row, a vector of channels."""
        spec = self.spec
        src, dst, weights, params = pointers
        image, row = divided(b, strip, spec.rows.count)
        first: Value | int = 0
        if spec.channels > self.width:
            first = overlapped(b, piece, self.width, spec.channels)
        for index, axis in ((image, spec.batch), (row, spec.rows)):
            src, dst = (
                at(b, p, multiple(b, index, step)) for p, step in ((src, axis.src), (dst, axis.dst))
            )
        tables = plus(b, multiple(b, first, 4), header_bytes(lookup=spec.lookup))
        epilogue = self._epilogue(params, at(b, params, tables))
        epilogue.keep(b, self.width // self.isa.lanes)
        self._columns(b, at(b, src, first), at(b, dst, first), at(b, weights, first), epilogue)

    def _epilogue(self, params: Value, tables: Value) -> Epilogue:
        spec, lanes = self.spec, self.isa.lanes
        block = BlockParameters(
            header=params,
            tables=tables,
            table_bytes=4 * in_vectors(spec.channels),
            vector_bytes=4 * lanes,
            lanes=lanes,
            ceiling=spec.ceiling,
            lookup=spec.lookup,
            clamped=spec.clamped,
            repeated=1,
            rectified=spec.rectified,
            shifts_right=spec.shifts_right,
        )
        return Epilogue(self.isa, spec.form, block, self.isa.machine.narrow)

    def _columns(
        self, b: ir.IRBuilder, src: Value, dst: Value, weights: Value, epilogue: Epilogue
    ) -> None:
        """All tiles of a row."""
        spec, vectors = self.spec, self.width // self.isa.lanes
        whole, rest = divmod(spec.columns.count, self.columns)

        def tile(n: Value | int, columns: int = self.columns) -> None:
            x = multiple(b, n, self.columns)
            from_, to = (
                at(b, p, multiple(b, x, step))
                for p, step in ((src, spec.columns.src), (dst, spec.columns.dst))
            )
            start = [epilogue.bias(b, v) for v in range(vectors)]
            sums = self._sums(b, from_, weights, start * columns)
            by_pixel = [sums[i : i + vectors] for i in range(0, len(sums), vectors)]
            results = [at(b, to, c * spec.columns.dst) for c in range(columns)]
            epilogue.store(b, by_pixel, results, min(self.width, spec.channels))

        loop(b, whole, tile, "tile")
        if rest:
            tile(whole, rest)

    def _sums(self, b: ir.IRBuilder, src: Value, weights: Value, start: Carried) -> Carried:
        """sums[column * vectors + vector], in straight code or by loops over the kernel."""
        (height, width), (below, right) = self.spec.kernel, self.spec.steps
        if len(self.taps) <= _STRAIGHT:
            taps = [(tap, self._weight(b, weights, tap)) for tap in self.taps]
            return self._added(b, src, taps, start)

        def tap(row: Value | int, k: Value | int, sums: Carried) -> Carried:
            x = at(b, src, plus(b, multiple(b, row, below), multiple(b, k, right)))
            index = plus(b, multiple(b, row, width), k)
            place = at(b, weights, multiple(b, index, in_vectors(self.spec.channels)))
            return self._added(b, x, [((0, 0), self._weight(b, place, (0, 0)))], sums)

        def line(row: Value | int, sums: Carried) -> Carried:
            if width > _STRAIGHT:
                return repeat(b, width, sums, partial(tap, row), "kx")
            x = at(b, src, multiple(b, row, below))
            w = at(b, weights, multiple(b, row, width * in_vectors(self.spec.channels)))
            beside = [((0, k), self._weight(b, w, (0, k))) for k in range(width)]
            return self._added(b, x, beside, sums)

        return repeat(b, height, start, line, "ky")

    def _weight(self, b: ir.IRBuilder, weights: Value, tap: Tap) -> Value:
        row, column = tap
        index = row * self.spec.kernel[1] + column
        place = at(b, weights, index * in_vectors(self.spec.channels))
        return load(b, place, vector(I8, self.width))

    def _added(
        self, b: ir.IRBuilder, src: Value, taps: Sequence[tuple[Tap, Value]], sums: Carried
    ) -> list[Value]:
        """Taps times weights, one or two at a time, for each column."""
        spec, lanes = self.spec, self.isa.lanes
        wide, at_once = vector(I16, self.width), 2 if spec.pairs else 1
        pixels: dict[int, Value] = {}

        def pixel(tap: Tap, column: int) -> Value:
            offset = tap[0] * spec.steps[0] + tap[1] * spec.steps[1] + column * spec.columns.src
            if offset not in pixels:
                pixels[offset] = load(b, at(b, raw(src), offset), vector(I8, self.width))
            return pixels[offset]

        result = list(sums)
        for first in range(0, len(taps), at_once):
            for column in range(len(sums) // (self.width // lanes)):
                total = None
                for tap, weight in taps[first : first + at_once]:
                    x, w = (b.sext(v, wide) for v in (pixel(tap, column), weight))
                    total = b.mul(x, w) if total is None else b.add(total, b.mul(x, w))
                for v in range(self.width // lanes):
                    part = shuffle(b, total, total, range(v * lanes, (v + 1) * lanes))
                    n = column * (self.width // lanes) + v
                    result[n] = b.add(result[n], b.sext(part, vector(I32, lanes)))
        return result
