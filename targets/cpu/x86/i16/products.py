"""Convolutions and dense layers with 16 bits at either side: tiles of pixels by channels, on x86.

Activations of 16 bits are broadcast by pairs of neighbours in k, those of 8 bits by fours as the
machine's dot product takes them. Weights lie as [block][segment][k / group][channel][group].

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
    I32,
    Carried,
    Value,
    at,
    divided,
    load,
    multiple,
    overlapped,
    raw,
    repeat,
    shuffle,
    vector,
)
from qcomp.targets.cpu.emit.i16.segments import over_segments
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.x86.i16.blocks import ChannelBlocks
from qcomp.targets.cpu.x86.i16.pairs import Bytes, Words
from qcomp.targets.cpu.x86.i16.scale import HighHalves, Results

_MOST_PIXELS = 14
_UNROLLED = 8  # steps of k in straight code


@dataclass(frozen=True)
class TiledProducts:
    """Emits the kernel of one shape class."""

    spec: ProductSpec
    scale: HighHalves
    isa: Isa
    fused: bool  # whether there is vpdpwssd

    @property
    def key(self) -> tuple[ProductSpec, HighHalves]:
        return self.spec, self.scale

    @property
    def units(self) -> int:
        """A unit is a tile of pixels of one block; neighbouring units share the block's weights."""
        spec = self.spec
        rows = spec.batch.count * spec.rows.count * self._tiles
        return spec.groups.count * self._blocks.count * rows

    def constants(self, layer: LayerConstants) -> Sequence[Array]:
        tables = (layer.stored_bias(), *self.scale.tables(layer))
        return [self._packed(layer.weight), *map(self._by_block, tables)]

    def _packed(self, weight: Array) -> NDArray[np.int8]:
        """[groups, channels, segments, length] to [group][block][segment][step][channel][k]."""
        group = self._products.group
        groups, _, segments, length = weight.shape
        padded = np.pad(weight, [(0, 0)] * 3 + [(0, -length % group)])
        parts = padded[:, self._blocks.order()]
        parts = parts.reshape(groups, *parts.shape[1:3], segments, -1, group)
        return np.ascontiguousarray(parts.transpose(0, 1, 3, 4, 2, 5), np.int8)

    def _by_block(self, values: Array) -> Array:
        by_group = values.reshape(self.spec.groups.count, -1)
        return np.ascontiguousarray(by_group[:, self._blocks.order()])

    @property
    def _products(self) -> Words | Bytes:
        machine = self.isa.machine
        if self.spec.source.width == 8:
            return Bytes(machine.dot)
        return Words(machine.vectors, self.fused)

    @property
    def _blocks(self) -> ChannelBlocks:
        """Wide ones, unless tiles of narrower ones compute a sixteenth fewer sums twice.

        Sixteen pixels are two tiles of eight by three vectors, or three of six by four. Weights
        that layers of other sizes have too are packed in one way for all.
        """
        if self.isa.registers < 32:
            return self._cut(2)
        wide, narrow = self._cut(4), self._cut(3)
        if self.spec.shared:
            return wide
        most = self._computed(wide)
        return narrow if self._computed(narrow) * 16 <= most * 15 else wide

    def _cut(self, most: int) -> ChannelBlocks:
        return ChannelBlocks(self.spec.channels, self.isa.machine.vectors, most)

    def _computed(self, blocks: ChannelBlocks) -> int:
        """Vectors of sums of a row of pixels, also those that another tile has."""
        pixels = self._pixels_beside(blocks.of_block)
        tiles = -(-self.spec.columns.count // pixels)
        return tiles * pixels * blocks.count * blocks.of_block

    @property
    def _pixels(self) -> int:
        return self._pixels_beside(self._blocks.of_block)

    def _pixels_beside(self, vectors: int) -> int:
        """Of a tile: sums beside weights, an activation and a product take all registers."""
        parts = 2 if self.spec.source.width == 8 and self.isa.machine.dot.widens else 1
        free = self.isa.registers - 1 - parts * (vectors + 1)
        most = max(min(free // vectors, _MOST_PIXELS), 1)
        count = self.spec.columns.count
        return -(-count // -(-count // most))

    @property
    def _tiles(self) -> int:
        return -(-self.spec.columns.count // self._pixels)

    @property
    def _steps(self) -> int:
        """Of one segment."""
        return -(-self.spec.length // self._products.group)

    @property
    def _step_bytes(self) -> int:
        """Of the weights of a step."""
        return self._products.group * self._blocks.block

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers: source, result, weights, bias, the tables of `HighHalves`, limits."""
        spec, blocks = self.spec, self._blocks
        src, dst, weights, *tables, limits = pointers

        def unit(index: Value) -> None:
            rest, tile = divided(b, index, self._tiles)
            rest, row = divided(b, rest, spec.rows.count)
            which, image = divided(b, rest, spec.batch.count)
            group, block = divided(b, which, blocks.count)
            column = overlapped(b, tile, self._pixels, spec.columns.count)
            channel = overlapped(b, block, blocks.stored, spec.channels)
            x, y = src, at(b, dst, multiple(b, channel, spec.result.width // 8))
            steps = zip(
                (group, image, row, column),
                (spec.groups, spec.batch, spec.rows, spec.columns),
                strict=True,
            )
            for n, axis in steps:
                x, y = at(b, x, multiple(b, n, axis.src)), at(b, y, multiple(b, n, axis.dst))
            first = multiple(b, which, blocks.block)
            rows = spec.segment_count * self._steps * self._products.group
            w = at(b, weights, multiple(b, first, rows))
            bias, *scales = (at(b, table, multiple(b, first, 4)) for table in tables)
            sums = self._sums(b, x, w, bias)
            self._store(b, sums, y, scales, Results.of(b, spec.result, self.scale, limits))

        Span(begin, end).loop(b, unit)
        b.ret_void()

    def _vectors(self, b: ir.IRBuilder, table: Value) -> list[Value]:
        """The entries of a block, a vector for each of sums."""
        lanes = self.isa.lanes
        return [
            load(b, at(b, table, 4 * lanes * v), vector(I32, lanes))
            for v in range(self._blocks.of_block)
        ]

    def _sums(self, b: ir.IRBuilder, x: Value, w: Value, bias: Value) -> Carried:
        """[pixel][vector], flat."""

        def segment(x_offset: Value | int, n: Value | int, sums: Carried) -> Carried:
            place = at(b, w, multiple(b, n, self._steps * self._step_bytes))
            return self._segment(b, at(b, raw(x), x_offset), place, sums)

        start = self._vectors(b, bias) * self._pixels
        return over_segments(b, self.spec.segments, start, segment)

    def _segment(self, b: ir.IRBuilder, x: Value, w: Value, sums: Carried) -> Carried:
        together = min(_UNROLLED, self._steps)
        x_bytes = self._products.group * self.spec.source.width // 8

        def trip(n: Value | int, sums: Carried, count: int = together) -> Carried:
            first = multiple(b, n, together)
            p = at(b, x, multiple(b, first, x_bytes))
            q = at(b, w, multiple(b, first, self._step_bytes))
            for k in range(count):
                place = at(b, q, k * self._step_bytes)
                sums = self._step(b, at(b, p, k * x_bytes), place, sums)
            return sums

        trips, rest = divmod(self._steps, together)
        sums = repeat(b, trips, sums, trip, "k")
        return trip(trips, sums, rest) if rest else sums

    def _step(self, b: ir.IRBuilder, x: Value, w: Value, sums: Carried) -> Carried:
        products, vectors = self._products, self._blocks.of_block
        size = products.group * self.isa.lanes
        weights = [products.weights(b, at(b, w, v * size)) for v in range(vectors)]
        result = []
        for pixel in range(self._pixels):
            same = products.same(b, at(b, x, pixel * self.spec.columns.src))
            for v, of_vector in enumerate(weights):
                result.append(products.add(b, sums[pixel * vectors + v], same, of_vector))
        return result

    def _store(
        self, b: ir.IRBuilder, sums: Carried, y: Value, scales: Sequence[Value], results: Results
    ) -> None:
        vectors, lanes = self._blocks.of_block, self.isa.lanes
        tables = list(zip(*(self._vectors(b, table) for table in scales), strict=True))
        if self._blocks.has_halves:
            self._store_halves(b, sums, y, tables[0], results)
            return
        for v in range(0, vectors, 2):
            offset, left = v * lanes, self._blocks.stored - v * lanes
            for pixel in range(self._pixels):
                place = pixel * self.spec.columns.dst + offset * self.spec.result.width // 8
                to, first = at(b, y, place), pixel * vectors + v
                found = [
                    self.scale.scaled(b, sums[first + i], tables[v + i])
                    for i in range(min(2, vectors - v))
                ]
                if len(found) == 2:
                    results.store_pair(b, found[0], found[1], to, left)
                else:
                    results.store_one(b, found[0], to, left)

    def _store_halves(
        self, b: ir.IRBuilder, sums: Carried, y: Value, tables: Sequence[Value], results: Results
    ) -> None:
        """Two pixels make one vector."""
        lanes, channels = self.isa.lanes, self._blocks.stored
        order = [*range(lanes // 2), *range(lanes, lanes + lanes // 2)]
        for pixel in range(0, self._pixels, 2):
            two = range(pixel, min(pixel + 2, self._pixels))
            both = shuffle(b, sums[two[0]], sums[two[-1]], order)
            to = [at(b, y, p * self.spec.columns.dst) for p in two]
            results.store_halves(b, self.scale.scaled(b, both, tables), to, channels)
