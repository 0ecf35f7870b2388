"""Depthwise convolutions with operands or results of 16 bits: vectors over channels, tap by tap.

Sums are i32, or i64 where the graph says so by the type of the bias: these take the products of
rows of taps, which fit i32.

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    I64,
    Carried,
    Value,
    at,
    divided,
    load,
    multiple,
    overlapped,
    repeat,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.i16.scale import saturated, scaled
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, TapSpec
from qcomp.targets.cpu.emit.lanes import chunk
from qcomp.targets.cpu.emit.requantize import Saturation
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.machine import Isa

# Products whose sum fits i32, if all are the largest: 511 * 2^15 * 2^7 < 2^31.
PART = 511
_UNROLLED = 8  # rows of taps, and taps of a row
_PIXELS = 4


@dataclass(frozen=True)
class DepthwiseProducts:
    """Emits the kernel of one shape class; constants lie by channel, weights [kh][kw][channel]."""

    spec: TapSpec
    isa: Isa

    @property
    def lanes(self) -> int:
        return chunk(self.spec.channels, 2 * self.isa.lanes, self.isa.lanes)

    @property
    def pixels(self) -> int:
        return min(_PIXELS, self.spec.columns.count)

    @property
    def tiles(self) -> int:
        return -(-self.spec.columns.count // self.pixels)

    @property
    def units(self) -> int:
        """A unit is a tile of pixels of one chunk of channels."""
        chunks = -(-self.spec.channels // self.lanes)
        return self.spec.batch.count * self.spec.rows.count * self.tiles * chunks

    @property
    def key(self) -> TapSpec:
        return self.spec

    @staticmethod
    def constants(layer: LayerConstants) -> list[Array]:
        """Weights by tap."""
        weight = np.ascontiguousarray(layer.weight.transpose(1, 2, 0), np.int8)
        constants = [weight, layer.bias, layer.multiplier, layer.shift]
        return constants if layer.ceiling is None else [*constants, layer.ceiling]

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers: source, result, the constants, limits (as Saturation)."""
        spec = self.spec
        src, dst, weights, bias, multiplier, shift, *ceilings, limits = pointers
        chunks = -(-spec.channels // self.lanes)

        def unit(index: Value) -> None:
            rest, part = divided(b, index, chunks)
            rest, tile = divided(b, rest, self.tiles)
            image, row = divided(b, rest, spec.rows.count)
            column = overlapped(b, tile, self.pixels, spec.columns.count)
            channel = overlapped(b, part, self.lanes, spec.channels)
            x = at(b, src, multiple(b, channel, spec.source.width // 8))
            y = at(b, dst, multiple(b, channel, spec.result.width // 8))
            steps = (image, spec.batch), (row, spec.rows), (column, spec.columns)
            for n, axis in steps:
                x, y = at(b, x, multiple(b, n, axis.src)), at(b, y, multiple(b, n, axis.dst))
            start = self._table(b, bias, channel, spec.sums)
            sums = self._sums(b, x, at(b, weights, channel), [start] * self.pixels)
            multipliers = self._table(b, multiplier, channel, I32)
            shifts = self._table(b, shift, channel, I32)
            to = Saturation.loaded(b, limits, self.lanes)
            for ceiling in ceilings:
                to = to.below(b, self._table(b, ceiling, channel, I32))
            for pixel, acc in enumerate(sums):
                q = saturated(b, scaled(b, acc, multipliers, shifts), to, spec.result)
                store(b, q, at(b, y, pixel * spec.columns.dst))

        Span(begin, end).loop(b, unit)
        b.ret_void()

    def _table(
        self, b: ir.IRBuilder, table: Value, channel: Value | int, element: ir.IntType
    ) -> Value:
        slot = at(b, table, multiple(b, channel, element.width // 8))
        return load(b, slot, vector(element, self.lanes))

    def _sums(self, b: ir.IRBuilder, x: Value, w: Value, sums: Carried) -> Carried:
        height, width = self.spec.kernel
        below, _ = self.spec.taps

        def row(k: Value | int, sums: Carried) -> Carried:
            p = at(b, x, multiple(b, k, below))
            q = at(b, w, multiple(b, k, width * self.spec.channels))
            if self.spec.sums == I32:
                return self._row(b, p, q, range(width), sums)
            for first in range(0, width, PART):
                zeros = [splat(I32, self.lanes, 0)] * len(sums)
                found = self._row(b, p, q, range(first, min(first + PART, width)), zeros)
                wide = vector(I64, self.lanes)
                sums = [b.add(s, b.sext(f, wide)) for s, f in zip(sums, found, strict=True)]
            return sums

        if height > _UNROLLED:
            return repeat(b, height, sums, row, "row")
        for k in range(height):
            sums = row(k, sums)
        return sums

    def _row(self, b: ir.IRBuilder, x: Value, w: Value, taps: range, sums: Carried) -> Carried:
        """Products of neighbouring taps, added to i32 sums."""
        spec, wide = self.spec, vector(I32, self.lanes)

        def tap(k: Value | int, sums: Carried) -> Carried:
            p = at(b, x, multiple(b, k, spec.taps[1]))
            weight = load(b, at(b, w, multiple(b, k, spec.channels)), vector(I8, self.lanes))
            factor = b.sext(weight, wide)
            values = (
                load(b, at(b, p, n * spec.columns.src), vector(spec.source, self.lanes))
                for n in range(len(sums))
            )
            return [
                b.add(s, b.mul(b.sext(v, wide), factor)) for s, v in zip(sums, values, strict=True)
            ]

        if len(taps) > _UNROLLED:
            x, w = at(b, x, taps.start * spec.taps[1]), at(b, w, taps.start * spec.channels)
            return repeat(b, len(taps), sums, tap, "tap")
        for k in taps:
            sums = tap(k, sums)
        return sums
