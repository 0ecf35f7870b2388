"""Depthwise convolutions with 16 bits at either side, by pairs of taps one below the other, on x86.

Two rows of activations are unpacked into pairs, which every result that sees them multiplies by
its two weights. The order of channels that unpacks make is the one that packs undo. Neighbouring
pixels of few channels, whose results are neighbours too, fill a vector together.

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d).
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
    I16,
    I32,
    Value,
    at,
    divided,
    load,
    multiple,
    overlapped,
    raw,
    vector,
)
from qcomp.targets.cpu.emit.i16.spec import PAIR, LayerConstants, TapSpec
from qcomp.targets.cpu.emit.lanes import zipped
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.x86.i16.pairs import add_pairs
from qcomp.targets.cpu.x86.i16.scale import HighHalves, Results, pack_order

MOST_TAPS = 49  # in straight code
_LEAST = 8  # channels: of 128 bits


@dataclass(frozen=True)
class PairedTaps:
    """Emits the kernel of one shape class."""

    spec: TapSpec
    scale: HighHalves
    isa: Isa
    fused: bool  # whether there is vpdpwssd

    @property
    def key(self) -> tuple[TapSpec, HighHalves]:
        return self.spec, self.scale

    @property
    def units(self) -> int:
        """A unit is a tile of pixels of one block of channels."""
        return self.spec.batch.count * self.spec.rows.count * self._tiles * self._blocks

    @property
    def _block(self) -> int:
        """Lanes of a vector of i16, no longer than the channels want."""
        if self._together > 1:
            return 2 * self.isa.lanes
        enough = 1 << (self.spec.channels - 1).bit_length()
        return min(max(enough, _LEAST), 2 * self.isa.lanes)

    @property
    def _together(self) -> int:
        """Neighbouring pixels of a vector."""
        spec, (count, rest) = self.spec, divmod(2 * self.isa.lanes, self.spec.channels)
        sizes = spec.source.width // 8, spec.result.width // 8
        steps = spec.columns.src, spec.columns.dst
        dense = steps == tuple(spec.channels * size for size in sizes)
        return count if dense and not rest and 1 < count <= spec.columns.count else 1

    @property
    def _stored(self) -> int:
        return self._block if self._together > 1 else min(self._block, self.spec.channels)

    @property
    def _blocks(self) -> int:
        return -(-self.spec.channels // self._block)

    @property
    def _vectors(self) -> int:
        """Of a tile, along the columns: sums, and pairs of one row of taps, stay in registers."""
        return min(4 if self.isa.registers >= 32 else 2, self.spec.columns.count // self._together)

    @property
    def _pixels(self) -> int:
        """Of a tile."""
        return self._vectors * self._together

    @property
    def _tiles(self) -> int:
        return -(-self.spec.columns.count // self._pixels)

    @property
    def _row_pairs(self) -> int:
        return -(-self.spec.kernel[0] // PAIR)

    def constants(self, layer: LayerConstants) -> Sequence[Array]:
        tables = (layer.stored_bias(), *self.scale.tables(layer))
        order = self._order()
        return [self._packed(layer.weight), *(np.ascontiguousarray(t[order]) for t in tables)]

    def _packed(self, weight: Array) -> NDArray[np.int16]:
        """[channels, kh, kw] to [block][pair of rows][kw][channel][row]."""
        _, height, width = weight.shape
        padded = np.pad(weight, [(0, 0), (0, -height % PAIR), (0, 0)])[self._order()]
        parts = padded.reshape(self._blocks, self._block, -1, PAIR, width)
        return np.ascontiguousarray(parts.transpose(0, 2, 4, 1, 3), np.int16)

    def _order(self) -> Array:
        """[blocks, channels of a block]."""
        channels, inside = self.spec.channels, pack_order(self._block // 2)
        if self._together > 1:
            return np.asarray(inside[None, :] % channels)
        starts = np.minimum(np.arange(self._blocks) * self._block, channels - self._stored)
        return np.asarray(np.minimum(starts[:, None] + inside, channels - 1))

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers: source, result, weights, bias, the tables of `HighHalves`, limits."""
        spec = self.spec
        src, dst, weights, *tables, limits = pointers
        size = self._row_pairs * spec.kernel[1] * self._block * PAIR * 2

        def unit(index: Value) -> None:
            rest, part = divided(b, index, self._blocks)
            rest, tile = divided(b, rest, self._tiles)
            image, row = divided(b, rest, spec.rows.count)
            column = overlapped(b, tile, self._pixels, spec.columns.count)
            one_part = self._blocks == 1
            channel = 0 if one_part else overlapped(b, part, self._stored, spec.channels)
            x = at(b, raw(src), multiple(b, channel, spec.source.width // 8))
            y = at(b, dst, multiple(b, channel, spec.result.width // 8))
            steps = (image, spec.batch), (row, spec.rows), (column, spec.columns)
            for n, axis in steps:
                x, y = at(b, x, multiple(b, n, axis.src)), at(b, y, multiple(b, n, axis.dst))
            w = at(b, weights, multiple(b, part, size))
            places = (at(b, t, multiple(b, part, 4 * self._block)) for t in tables)
            bias, *scales = (self._halves(b, place) for place in places)
            sums = self._sums(b, x, w, bias)
            results = Results.of(b, spec.result, self.scale, limits)
            for n, two in enumerate(sums):
                first, second = (
                    self.scale.scaled(b, acc, [table[half] for table in scales])
                    for half, acc in enumerate(two)
                )
                place = at(b, y, n * self._together * spec.columns.dst)
                results.store_pair(b, first, second, place, self._stored)

        Span(begin, end).loop(b, unit)
        b.ret_void()

    def _halves(self, b: ir.IRBuilder, table: Value) -> list[Value]:
        """The entries of a block, a vector for each of its two of sums."""
        lanes = self._block // 2
        return [load(b, at(b, table, 4 * lanes * n), vector(I32, lanes)) for n in (0, 1)]

    def _sums(
        self, b: ir.IRBuilder, x: Value, w: Value, bias: Sequence[Value]
    ) -> list[list[Value]]:
        """[vector][half]."""
        spec, width = self.spec, self.spec.kernel[1]
        below, right = spec.taps
        sums = [list(bias) for _ in range(self._vectors)]
        for pair in range(self._row_pairs):
            known: dict[int, list[Value]] = {}
            rows = [r for r in (PAIR * pair, PAIR * pair + 1) if r < spec.kernel[0]]
            for k in range(width):
                place = at(b, w, (pair * width + k) * self._block * PAIR * 2)
                factors = [
                    load(b, at(b, place, 2 * self._block * half), vector(I16, self._block))
                    for half in (0, 1)
                ]
                for n in range(self._vectors):
                    offset = n * self._together * spec.columns.src + k * right
                    if offset not in known:
                        found = [self._row(b, at(b, x, r * below + offset)) for r in rows]
                        known[offset] = [
                            zipped(b, found[0], found[-1], high=high) for high in (False, True)
                        ]
                    sums[n] = [
                        add_pairs(b, *three, fused=self.fused)
                        for three in zip(sums[n], known[offset], factors, strict=True)
                    ]
        return sums

    def _row(self, b: ir.IRBuilder, place: Value) -> Value:
        """The stored activations of the block, bytes as 16 bits without sign."""
        values = load(b, place, vector(self.spec.source, self._block))
        if self.spec.source.width == 16:
            return values
        return b.zext(b.bitcast(values, vector(I8, self._block)), vector(I16, self._block))
