"""Convolutions and dense layers with operands or results of 32 bits: sums of i64.

An activation is broadcast to all channels of a vector; weights lie as [k][channel] of a block.
Products of an i32 and an i8 are those of the low halves of i64 lanes, which machines have an
instruction for (pmuldq, smull).

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d, QDense).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    I64,
    Carried,
    Value,
    at,
    broadcast,
    divided,
    load,
    multiple,
    overlapped,
    repeat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.i16.segments import over_segments
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec
from qcomp.targets.cpu.emit.i32.scale import Limits, scaled
from qcomp.targets.cpu.emit.lanes import chunk
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.machine import Isa

_PIXELS = 2
_UNROLLED = 4  # activations in straight code


@dataclass(frozen=True)
class SumProducts:
    """Emits the kernel of one shape class."""

    spec: ProductSpec
    isa: Isa

    @property
    def key(self) -> ProductSpec:
        return self.spec

    @property
    def lanes(self) -> int:
        """Of a vector of channels, which is a block."""
        native = max(self.isa.lanes // 2, 1)
        return chunk(self.spec.channels, 2 * native, native)

    @property
    def blocks(self) -> int:
        return -(-self.spec.channels // self.lanes)

    @property
    def pixels(self) -> int:
        return min(_PIXELS, self.spec.columns.count)

    @property
    def tiles(self) -> int:
        return -(-self.spec.columns.count // self.pixels)

    @property
    def units(self) -> int:
        spec = self.spec
        return spec.groups.count * self.blocks * spec.batch.count * spec.rows.count * self.tiles

    def constants(self, layer: LayerConstants) -> list[Array]:
        tables = [layer.bias.astype(np.int64), layer.multiplier, layer.shift]
        assert layer.ceiling is None, "ceilings are of results of 8 and 16 bits"
        return [self._packed(layer.weight), *map(self._by_block, tables)]

    def _packed(self, weight: Array) -> NDArray[np.int8]:
        """[groups, channels, segments, length] to [group][block][segment][k][channel]."""
        groups, _, segments, length = weight.shape
        parts = weight[:, self._order()].reshape(groups, self.blocks, self.lanes, segments, length)
        return np.ascontiguousarray(parts.transpose(0, 1, 3, 4, 2), np.int8)

    def _by_block(self, values: Array) -> Array:
        return np.ascontiguousarray(values.reshape(self.spec.groups.count, -1)[:, self._order()])

    def _order(self) -> NDArray[np.intp]:
        """The channels of one group as blocks have them, the last one moved back."""
        starts = np.minimum(np.arange(self.blocks) * self.lanes, self.spec.channels - self.lanes)
        return (starts[:, None] + np.arange(self.lanes)).reshape(-1)

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers: source, result, the constants, limits (as Saturation)."""
        spec, lanes = self.spec, self.lanes
        src, dst, weights, bias, *scales, limits = pointers

        def unit(index: Value) -> None:
            rest, tile = divided(b, index, self.tiles)
            rest, row = divided(b, rest, spec.rows.count)
            which, image = divided(b, rest, spec.batch.count)
            group, block = divided(b, which, self.blocks)
            column = overlapped(b, tile, self.pixels, spec.columns.count)
            channel = overlapped(b, block, lanes, spec.channels)
            x, y = src, at(b, dst, multiple(b, channel, spec.result.width // 8))
            steps = zip(
                (group, image, row, column),
                (spec.groups, spec.batch, spec.rows, spec.columns),
                strict=True,
            )
            for n, axis in steps:
                x, y = at(b, x, multiple(b, n, axis.src)), at(b, y, multiple(b, n, axis.dst))
            first = multiple(b, which, lanes)
            w = at(b, weights, multiple(b, first, spec.segment_count * spec.length))
            start = load(b, at(b, bias, multiple(b, first, 8)), vector(I64, lanes))
            sums = self._sums(b, x, w, [start] * self.pixels)
            multiplier, shift = (
                load(b, at(b, table, multiple(b, first, 4)), vector(I32, lanes)) for table in scales
            )
            to = Limits.loaded(b, limits, lanes, spec.result)
            for pixel, total in enumerate(sums):
                q = to.saturated(b, scaled(b, total, multiplier, shift))
                store(b, q, at(b, y, pixel * spec.columns.dst))

        Span(begin, end).loop(b, unit)
        b.ret_void()

    def _sums(self, b: ir.IRBuilder, x: Value, w: Value, sums: Carried) -> Carried:
        """By pixel."""
        inner = self.spec.length * self.lanes

        def segment(x_offset: Value | int, n: Value | int, sums: Carried) -> Carried:
            return self._run(b, at(b, x, x_offset), at(b, w, multiple(b, n, inner)), sums)

        return over_segments(b, self.spec.segments, sums, segment)

    def _run(self, b: ir.IRBuilder, x: Value, w: Value, sums: Carried) -> Carried:
        together = min(_UNROLLED, self.spec.length)
        size = self.spec.source.width // 8

        def trip(n: Value | int, sums: Carried, count: int = together) -> Carried:
            first = multiple(b, n, together)
            p, q = at(b, x, multiple(b, first, size)), at(b, w, multiple(b, first, self.lanes))
            for k in range(count):
                sums = self._step(b, at(b, p, k * size), at(b, q, k * self.lanes), sums)
            return sums

        trips, rest = divmod(self.spec.length, together)
        sums = repeat(b, trips, sums, trip, "k")
        return trip(trips, sums, rest) if rest else sums

    def _step(self, b: ir.IRBuilder, x: Value, w: Value, sums: Carried) -> Carried:
        wide = vector(I64, self.lanes)
        weights = b.sext(load(b, w, vector(I8, self.lanes)), wide)
        result = []
        for pixel, total in enumerate(sums):
            one = load(b, at(b, x, pixel * self.spec.columns.src), self.spec.source)
            every = b.sext(broadcast(b, one, self.lanes), wide)
            result.append(b.add(total, b.mul(every, weights)))
        return result
