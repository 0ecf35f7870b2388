"""Convolutions and dense layers with operands or results of 16 bits, as sums of products by pairs.

An activation is broadcast to all channels of a vector together with its neighbour in k; weights
lie as [k / 2][channel][2], so that one multiplication adds both products (pmaddwd). Sums are i32,
or i64 where the graph says so by the type of the bias: these take their products in parts that fit
i32.

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d, QDense).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
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
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.dot import sums_of_pairs
from qcomp.targets.cpu.emit.i16.blocking import Blocking
from qcomp.targets.cpu.emit.i16.scale import saturated, scaled
from qcomp.targets.cpu.emit.i16.segments import over_segments
from qcomp.targets.cpu.emit.i16.spec import PAIR, LayerConstants, ProductSpec
from qcomp.targets.cpu.emit.requantize import Saturation
from qcomp.targets.cpu.emit.span import Span

# Pairs of products whose sum fits i32, if all are the largest: 255 * 2 * 2^15 * 2^7 < 2^31.
PART = 255
_UNROLLED = 4  # pairs in straight code


@dataclass(frozen=True)
class Products:
    """Emits the kernel of one shape class."""

    blocking: Blocking

    @property
    def spec(self) -> ProductSpec:
        return self.blocking.spec

    @property
    def key(self) -> ProductSpec:
        return self.spec

    @property
    def units(self) -> int:
        return self.blocking.units

    def constants(self, layer: LayerConstants) -> list[Array]:
        tables = [layer.bias, layer.multiplier, layer.shift]
        if layer.ceiling is not None:
            tables.append(layer.ceiling)
        return [self.blocking.packed(layer.weight), *map(self.blocking.by_block, tables)]

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers: source, result, the constants, limits (as Saturation)."""
        spec = self.spec
        src, dst, weights, bias, *scales, limits = pointers

        def unit(index: Value) -> None:
            rest, tile = divided(b, index, self.blocking.tiles)
            rest, row = divided(b, rest, spec.rows.count)
            which, image = divided(b, rest, spec.batch.count)
            group, block = divided(b, which, self.blocking.blocks)
            column = overlapped(b, tile, self.blocking.pixels, spec.columns.count)
            channel = overlapped(b, block, self.blocking.block, spec.channels)
            x, y = src, at(b, dst, multiple(b, channel, spec.result.width // 8))
            steps = zip(
                (group, image, row, column),
                (spec.groups, spec.batch, spec.rows, spec.columns),
                strict=True,
            )
            for n, axis in steps:
                x, y = at(b, x, multiple(b, n, axis.src)), at(b, y, multiple(b, n, axis.dst))
            first = multiple(b, which, self.blocking.block)
            w = at(b, weights, multiple(b, first, spec.segment_count * spec.pairs * PAIR))
            tables = [at(b, table, multiple(b, first, 4)) for table in scales]
            biases = at(b, bias, multiple(b, first, spec.sums.width // 8))
            self._store(b, self._sums(b, x, w, biases), y, tables, limits)

        Span(begin, end).loop(b, unit)
        b.ret_void()

    def _sums(self, b: ir.IRBuilder, x: Value, w: Value, bias: Value) -> Carried:
        """[pixel][vector], flat."""
        spec, lanes = self.spec, self.blocking.lanes
        size = spec.sums.width // 8
        biases = [
            load(b, at(b, bias, v * lanes * size), vector(spec.sums, lanes))
            for v in range(self.blocking.vectors)
        ]

        inner = spec.pairs * PAIR * self.blocking.block

        def segment(x_offset: Value | int, n: Value | int, sums: Carried) -> Carried:
            w_offset = multiple(b, n, inner)
            return self._segment(b, at(b, x, x_offset), at(b, w, w_offset), sums)

        return over_segments(b, spec.segments, biases * self.blocking.pixels, segment)

    def _segment(self, b: ir.IRBuilder, x: Value, w: Value, sums: Carried) -> Carried:
        """The sums and the products of one segment, added in parts where sums are i64."""
        if self.spec.sums == I32:
            return self._run(b, x, w, self.spec.pairs, sums)
        zeros = [splat(I32, self.blocking.lanes, 0)] * len(sums)
        whole, rest = divmod(self.spec.pairs, PART)

        def part(n: Value | int, sums: Carried, pairs: int = PART) -> Carried:
            first = multiple(b, n, PART)
            p = at(b, x, multiple(b, first, PAIR * self._element))
            q = at(b, w, multiple(b, first, PAIR * self.blocking.block))
            found = self._run(b, p, q, pairs, zeros)
            wide = vector(I64, self.blocking.lanes)
            return [b.add(s, b.sext(f, wide)) for s, f in zip(sums, found, strict=True)]

        sums = repeat(b, whole, sums, part, "part")
        return part(whole, sums, rest) if rest else sums

    def _run(self, b: ir.IRBuilder, x: Value, w: Value, pairs: int, sums: Carried) -> Carried:
        """Products of `pairs` neighbouring pairs, added to i32 sums."""
        together = min(_UNROLLED, pairs)

        def trip(n: Value | int, sums: Carried, count: int = together) -> Carried:
            first = multiple(b, n, together)
            p = at(b, x, multiple(b, first, PAIR * self._element))
            q = at(b, w, multiple(b, first, PAIR * self.blocking.block))
            for k in range(count):
                sums = self._pair(
                    b,
                    at(b, p, k * PAIR * self._element),
                    at(b, q, k * PAIR * self.blocking.block),
                    sums,
                )
            return sums

        trips, rest = divmod(pairs, together)
        sums = repeat(b, trips, sums, trip, "k")
        return trip(trips, sums, rest) if rest else sums

    def _pair(self, b: ir.IRBuilder, x: Value, w: Value, sums: Carried) -> Carried:
        lanes = self.blocking.lanes
        weights = [
            b.sext(load(b, at(b, w, v * PAIR * lanes), vector(I8, PAIR * lanes)), _pairs_of(lanes))
            for v in range(self.blocking.vectors)
        ]
        result = []
        for pixel in range(self.blocking.pixels):
            two = self._two(b, at(b, x, pixel * self.spec.columns.src))
            for v, vector_of_weights in enumerate(weights):
                product = self._products(b, two, vector_of_weights)
                result.append(b.add(sums[pixel * self.blocking.vectors + v], product))
        return result

    def _two(self, b: ir.IRBuilder, x: Value) -> Value:
        """Two neighbouring activations for every channel, in i16."""
        lanes = self.blocking.lanes
        both = load(b, x, ir.IntType(PAIR * self.spec.source.width))
        every = b.bitcast(broadcast(b, both, lanes), vector(self.spec.source, PAIR * lanes))
        return b.sext(every, _pairs_of(lanes))

    def _products(self, b: ir.IRBuilder, x: Value, w: Value) -> Value:
        """Sums of two products each; a vector shorter than the machine's is left to LLVM."""
        isa = self.blocking.isa
        whole = self.blocking.lanes == isa.lanes
        return (isa.machine.pairs if whole else sums_of_pairs)(b, x, w)

    @property
    def _element(self) -> int:
        """Bytes of an activation."""
        width: int = self.spec.source.width
        return width // 8

    def _store(
        self, b: ir.IRBuilder, sums: Carried, y: Value, tables: Sequence[Value], limits: Value
    ) -> None:
        lanes, result = self.blocking.lanes, self.spec.result
        limited = Saturation.loaded(b, limits, lanes)
        for v in range(self.blocking.vectors):
            multiplier, shift, *ceilings = (
                load(b, at(b, table, 4 * v * lanes), vector(I32, lanes)) for table in tables
            )
            to = limited.below(b, ceilings[0]) if ceilings else limited
            for pixel in range(self.blocking.pixels):
                q = scaled(b, sums[pixel * self.blocking.vectors + v], multiplier, shift)
                offset = pixel * self.spec.columns.dst + v * lanes * result.width // 8
                store(b, saturated(b, q, to, result), at(b, y, offset))


def _pairs_of(lanes: int) -> ir.VectorType:
    return vector(I16, PAIR * lanes)
