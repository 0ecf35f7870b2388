"""Depthwise convolutions with operands or results of 16 bits on AArch64: smlal, tap by tap.

Eight channels at a time: their weights are widened once and stay in registers for some rows of
results, where they are few, and an activation serves all pixels of a tile that see it.

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.results import Results
from qcomp.targets.cpu.arm.i16.scale import LANES, Scaling, Tables, entries, halves
from qcomp.targets.cpu.arm.intrinsics import smull_words
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Value,
    at,
    divided,
    load,
    loop,
    multiple,
    overlapped,
    shuffle,
    vector,
)
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, TapSpec
from qcomp.targets.cpu.emit.span import Span

CHANNELS = 8
MOST_TAPS = 81  # in straight code; the sum of so many products fits i32
_KEPT = 9  # weights in registers
_MOST_PIXELS = 4
_MOST_TILES = 8  # of a unit, over some rows
_BYTES, _WORDS = vector(I8, CHANNELS), vector(I16, CHANNELS)


@dataclass(frozen=True)
class Taps:
    """Emits the kernel of one shape class."""

    spec: TapSpec
    scaling: Scaling
    results: Results

    @property
    def key(self) -> Taps:
        return self

    @property
    def _pixels(self) -> int:
        """Of a tile: the most, where a tile is as long as two pixels more."""
        columns = self.spec.columns.count
        counts = range(1, min(_MOST_PIXELS, columns) + 1)
        return min(counts, key=lambda n: -(-columns // n) * (n + 1))

    @property
    def _tiles(self) -> int:
        """Of a row."""
        return -(-self.spec.columns.count // self._pixels)

    @cached_property
    def _rows(self) -> int:
        """Of a unit: a few tiles, where beginning takes as long as a tile."""
        rows = self.spec.rows.count
        most = max(1, min(rows, _MOST_TILES // self._tiles))
        return min(range(1, most + 1), key=lambda n: -(-rows // n) * (n * self._tiles + 1))

    @property
    def _bands(self) -> int:
        return -(-self.spec.rows.count // self._rows)

    @property
    def _blocks(self) -> int:
        return -(-self.spec.channels // CHANNELS)

    @property
    def units(self) -> int:
        """A unit is some rows of one block of channels."""
        return self.spec.batch.count * self._bands * self._blocks

    def constants(self, layer: LayerConstants) -> list[Array]:
        """By blocks of channels, weights [block][tap][channel]."""
        starts = np.minimum(np.arange(self._blocks) * CHANNELS, self.spec.channels - CHANNELS)
        order = starts[:, None] + np.arange(CHANNELS)
        weight = layer.weight.reshape(len(layer.weight), -1)[order].transpose(0, 2, 1)
        tables = self.scaling.tables(layer)
        return [np.ascontiguousarray(x, x.dtype) for x in (weight, *(t[order] for t in tables))]

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        spec = self.spec
        src, dst, weights, *tables, limits = pointers
        to = self.results.loaded(b, limits)
        taps = spec.kernel[0] * spec.kernel[1]

        def unit(index: Value) -> None:
            rest, block = divided(b, index, self._blocks)
            image, band = divided(b, rest, self._bands)
            first = overlapped(b, band, self._rows, spec.rows.count)
            channel = overlapped(b, block, CHANNELS, spec.channels)
            x = at(b, src, multiple(b, channel, spec.source.width // 8))
            y = at(b, dst, multiple(b, channel, spec.result.width // 8))
            for n, axis in ((image, spec.batch), (first, spec.rows)):
                x, y = at(b, x, multiple(b, n, axis.src)), at(b, y, multiple(b, n, axis.dst))
            w = at(b, weights, multiple(b, block, taps * CHANNELS))
            kept = {tap: _weight(b, w, tap) for tap in range(taps) if taps <= _KEPT}
            sizes = (CHANNELS * size for size in self.scaling.entries)
            of_block = Tables(
                *(at(b, t, multiple(b, block, n)) for t, n in zip(tables, sizes, strict=True))
            )
            scales = [self.scaling.of_vector(b, of_block, v) for v in (0, 1)]

            def tile(row: Value | int, n: Value | int) -> None:
                column = overlapped(b, n, self._pixels, spec.columns.count)
                p, q = x, y
                for k, axis in ((row, spec.rows), (column, spec.columns)):
                    p, q = at(b, p, multiple(b, k, axis.src)), at(b, q, multiple(b, k, axis.dst))
                here = kept or {tap: _weight(b, w, tap) for tap in range(taps)}
                for pixel, sums in enumerate(self._sums(b, p, here, of_block.bias)):
                    scaled = [scale(x) for scale, x in zip(scales, sums, strict=True)]
                    to.store(b, scaled, at(b, q, pixel * spec.columns.dst), CHANNELS)

            def row(k: Value | int) -> None:
                loop(b, self._tiles, lambda n: tile(k, n), "tile")

            loop(b, self._rows, row, "row")

        Span(begin, end).loop(b, unit)
        b.ret_void()

    def _sums(
        self, b: ir.IRBuilder, x: Value, weights: Mapping[int, Value], bias: Value
    ) -> list[list[Value]]:
        """[pixel][four channels], with the bias; of i64 two vectors each."""
        spec = self.spec
        loaded: dict[int, Value] = {}
        result = []
        for pixel in range(self._pixels):
            sums = self._start(b, bias)
            for tap, weight in weights.items():
                row, column = divmod(tap, spec.kernel[1])
                offset = pixel * spec.columns.src + row * spec.taps[0] + column * spec.taps[1]
                if offset not in loaded:
                    values = load(b, at(b, x, offset), vector(spec.source, CHANNELS))
                    loaded[offset] = b.sext(values, _WORDS)
                pairs = zip(_quarters(b, loaded[offset]), _quarters(b, weight), strict=True)
                products = [smull_words(b, *pair) for pair in pairs]
                sums = [
                    p if s is None else b.add(s, p) for s, p in zip(sums, products, strict=True)
                ]
            result.append([self._total(b, total, bias, v) for v, total in enumerate(sums)])
        return result

    def _start(self, b: ir.IRBuilder, bias: Value) -> list[Value | None]:
        """Biases, loaded for each pixel: pipes that copy registers multiply."""
        if self.scaling.sums == I64:
            return [None, None]
        again = b.opaque(bias)
        return [entries(b, again, v, I32) for v in (0, 1)]

    def _total(self, b: ir.IRBuilder, sums: Value, bias: Value, v: int) -> Value:
        if self.scaling.sums == I32:
            return sums
        wide = vector(I64, LANES // 2)
        biases = halves(b, entries(b, bias, v, I64))
        return [b.add(z, b.sext(x, wide)) for z, x in zip(biases, halves(b, sums), strict=True)]


def _weight(b: ir.IRBuilder, weights: Value, tap: int) -> Value:
    return b.sext(load(b, at(b, weights, tap * CHANNELS), _BYTES), _WORDS)


def _quarters(b: ir.IRBuilder, x: Value) -> list[Value]:
    """The low and the high four of eight lanes."""
    return [shuffle(b, x, x, range(n, n + LANES)) for n in (0, LANES)]
