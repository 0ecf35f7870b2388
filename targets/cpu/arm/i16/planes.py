"""Sums of 16-bit activations by products of bytes: the high and the low ones apart.

    x = 256 * (x >> 8) + ((x & 255) - 128) + 128:
sums H of weights times the first, and L of weights times the second, both of i8, make
    sum of w * x = 256 * H + L + 128 * sum of w,
of which the last is part of the bias. uzp1 and uzp2 take the bytes apart, and a flip of the sign
makes an unsigned byte less 128. Two dot products are what takes four smlal, and cores start twice
as many in a cycle. Activations of 8 bits are one plane, which is worth it by smull and sadalp too.
smmla takes two pixels at once, eight k.

H and L fit i32 where a layer has less than 2^17 products. Where the graph says that sums fit i32,
256 * H + L does as well, wrapped or not on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.scale import (
    Scaling,
    Tables,
    entries,
    halves,
    products_of_words,
    scaled_pairs,
)
from qcomp.targets.cpu.arm.i16.tiling import LANES, Tiling, planes_of
from qcomp.targets.cpu.arm.i16.walk import Walk
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    I64,
    Carried,
    Value,
    at,
    flipped,
    load,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.dot import Operand
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec
from qcomp.targets.cpu.emit.tile_products import TileProducts

MOST_PRODUCTS = (1 << 17) - 1  # of which the largest, 2^14 each, fit i32
_BYTES = vector(I8, 16)
_REGISTERS = 27  # of sums and activations; the others hold weights


def most_pixels(spec: ProductSpec, vectors: int) -> int:
    return max(1, _REGISTERS // (planes_of(spec) * (vectors + 1)))


class ByteProducts(TileProducts, Protocol):
    """Products of bytes that take activations from registers."""

    @property
    def steps(self) -> int:
        """How many are added at once; where there are two, no weight is -128."""

    def taken(self, b: ir.IRBuilder, rows: Sequence[Value], steps: int) -> list[Operand]:
        """Of so many steps; rows are 16 stored bytes of each of `pixels` pixels."""


@dataclass(frozen=True)
class Planes:
    """Of all vectors of a block; sums [plane][pixels at once][vector][part], flat, the low plane
    first.
    """

    tiling: Tiling
    scaling: Scaling
    products: ByteProducts

    @property
    def vectors(self) -> int:
        return self.tiling.vectors

    @property
    def together(self) -> int:
        return self.products.together

    @property
    def entries(self) -> tuple[int, int, int]:
        return self.scaling.entries

    def tables(self, layer: LayerConstants) -> list[Array]:
        """For sums of i64 a multiple of the bias, which is added to products: none overflows."""
        bias = layer.bias.astype(np.int64)
        if planes_of(self.tiling.spec) == 2:
            bias = bias + 128 * layer.weight.reshape(len(bias), -1).astype(np.int64).sum(axis=1)
        if self.scaling.sums == I64:
            bias = bias * layer.multiplier
        _, *scales = self.scaling.tables(layer)
        return [bias.astype(layer.bias.dtype), *scales]

    def scaled(self, b: ir.IRBuilder, walk: Walk, tables: Tables) -> list[list[Value]]:
        pixels, vectors = self.tiling.pixels, self.tiling.vectors
        low = self._start(b, tables) if self._biased else self._zeros()
        high = self._zeros() if planes_of(self.tiling.spec) == 2 else []
        add = lambda sums, x, w, steps: self._add(b, sums, x, w, steps)  # noqa: E731
        sums = walk.everything(b, [*low, *high], add)
        totals = [self._totals(b, sums[n : n + len(low)]) for n in range(0, len(sums), len(low))]
        results: list[list[Value]] = [[] for _ in range(pixels)]
        for v in range(vectors):
            scale = self._scale(b, tables, v)
            for pixel in range(pixels):
                results[pixel].append(scale([plane[v][pixel] for plane in totals]))
        return results

    @property
    def _biased(self) -> bool:
        """Whether sums start from the biases, and do not meet them in the end."""
        return self.scaling.sums == I32 and self.products.biased

    @property
    def _at_once(self) -> int:
        """Of a tile, how many times `products.pixels` pixels."""
        return -(-self.tiling.pixels // self.products.pixels)

    def _zeros(self) -> Carried:
        return [splat(I32, LANES, 0)] * (self._at_once * self.tiling.vectors * self.products.parts)

    def _start(self, b: ir.IRBuilder, tables: Tables) -> Carried:
        """Biases, loaded for each pixel: pipes that copy registers multiply."""
        sums: list[Value] = []
        for _ in range(self._at_once):
            pointer = b.opaque(tables.bias)
            for v in range(self.tiling.vectors):
                sums += self.products.start(b, entries(b, pointer, v, I32))
        return sums

    def _totals(self, b: ir.IRBuilder, sums: Carried) -> list[list[Value]]:
        """[vector][pixel] of a plane."""
        parts, vectors = self.products.parts, self.tiling.vectors
        totals: list[list[Value]] = [[] for _ in range(vectors)]
        for n, first in enumerate(range(0, len(sums), parts)):
            totals[n % vectors] += self.products.totals(b, sums[first : first + parts])
        return totals

    def _add(
        self, b: ir.IRBuilder, sums: Carried, x: Sequence[Value], w: Value, steps: int
    ) -> Carried:
        products, vectors = self.products, self.tiling.vectors
        x = [*x, *[x[-1]] * (-len(x) % products.pixels)]
        rows = [self._planes(b, pointer, steps) for pointer in x]
        taken = [  # [plane][pixels at once][step]
            [
                products.taken(b, plane[first : first + products.pixels], steps)
                for first in range(0, len(x), products.pixels)
            ]
            for plane in zip(*rows, strict=True)
        ]
        result = list(sums)
        size = self.tiling.group * LANES
        for first in range(0, steps, products.steps):
            here = range(first, min(first + products.steps, steps))
            places = [[at(b, w, (n * vectors + v) * size) for n in here] for v in range(vectors)]
            weights = [[products.weights(b, place) for place in row] for row in places]
            operands = [[some[n] for n in here] for plane in taken for some in plane]
            for n, start in enumerate(range(0, len(result), products.parts)):
                at_once, v = divmod(n, vectors)
                end = start + products.parts
                added = products.add(b, result[start:end], operands[at_once], weights[v])
                result[start:end] = added
        return result

    def _planes(self, b: ir.IRBuilder, x: Value, steps: int) -> list[Value]:
        """Sixteen bytes of each."""
        first = load(b, x, _BYTES)
        if planes_of(self.tiling.spec) == 1:
            return [first]
        more = steps * self.tiling.group > 8
        second = load(b, at(b, x, 16), _BYTES) if more else first
        low, high = (shuffle(b, first, second, range(k, 32, 2)) for k in (0, 1))
        return [flipped(b, low), high]

    def _scale(self, b: ir.IRBuilder, tables: Tables, v: int) -> Callable[[Sequence[Value]], Value]:
        """(the sums of each plane) -> what `scaled` gives, of one vector."""
        if self.scaling.sums == I32:
            scale = self.scaling.of_vector(b, tables, v)
            if self.products.biased:
                return lambda sums: scale(_total(b, sums))
            bias = entries(b, tables.bias, v, I32)
            return lambda sums: scale(b.add(_total(b, sums), bias))
        multiplier = entries(b, tables.multiplier, v, I32)
        shifts = halves(b, entries(b, tables.shift, v, I64))
        biases = halves(b, entries(b, tables.bias, v, I64))
        return lambda sums: scaled_pairs(b, self._products(b, sums, multiplier, biases), shifts)

    def _products(
        self, b: ir.IRBuilder, sums: Sequence[Value], multiplier: Value, biases: Sequence[Value]
    ) -> list[Value]:
        """Multiples of the sums in i64."""
        low, *high = (products_of_words(b, x, multiplier) for x in sums)
        for plane in high:
            eight = splat(I64, LANES // 2, 8)
            biases = [b.add(z, b.shl(p, eight)) for z, p in zip(biases, plane, strict=True)]
        return [b.add(z, p) for z, p in zip(biases, low, strict=True)]


def _total(b: ir.IRBuilder, sums: Sequence[Value]) -> Value:
    low, *high = sums
    for plane in high:
        low = b.add(low, b.shl(plane, splat(I32, LANES, 8)))
    return low
