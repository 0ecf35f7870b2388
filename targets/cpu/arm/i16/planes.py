"""Sums of 16-bit activations by dot products of bytes (sdot): the high and the low ones apart.

    x = 256 * (x >> 8) + ((x & 255) - 128) + 128:
sums H of weights times the first, and L of weights times the second, both of i8, make
    sum of w * x = 256 * H + L + 128 * sum of w,
of which the last is part of the bias. uzp1 and uzp2 take the bytes apart, and a flip of the sign
makes an unsigned byte less 128. Two dot products are what takes four smlal, and cores start twice
as many in a cycle. Activations of 8 bits are one plane.

H and L fit i32 where a layer has less than 2^17 products. Where the graph says that sums fit i32,
256 * H + L does as well, wrapped or not on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from qcomp.targets.cpu.arm.i16.tiling import GROUP, LANES, Tiling, planes_of
from qcomp.targets.cpu.arm.i16.walk import Walk
from qcomp.targets.cpu.arm.intrinsics import sdot
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
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec

MOST_PRODUCTS = (1 << 17) - 1  # of which the largest, 2^14 each, fit i32
_BYTES = vector(I8, 16)
_REGISTERS = 27  # of sums and activations; the others hold weights


def most_pixels(spec: ProductSpec, vectors: int) -> int:
    return max(1, _REGISTERS // (planes_of(spec) * (vectors + 1)))


@dataclass(frozen=True)
class Planes:
    """Of all vectors of a block; sums [plane][pixel][vector], flat, the low plane first."""

    tiling: Tiling
    scaling: Scaling

    @property
    def vectors(self) -> int:
        return self.tiling.vectors

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
        low = self._start(b, tables) if self.tiling.spec.sums == I32 else self._zeros()
        high = self._zeros() if planes_of(self.tiling.spec) == 2 else []
        add = lambda sums, x, w, steps: self._add(b, sums, x, w, steps)  # noqa: E731
        sums = walk.everything(b, [*low, *high], add)
        each = pixels * vectors
        parts = [(low, *sums[each + n : each + n + 1]) for n, low in enumerate(sums[:each])]
        results: list[list[Value]] = [[] for _ in range(pixels)]
        for v in range(vectors):
            scale = self._scale(b, tables, v)
            for pixel in range(pixels):
                results[pixel].append(scale(parts[pixel * vectors + v]))
        return results

    def _zeros(self) -> Carried:
        return [splat(I32, LANES, 0)] * (self.tiling.pixels * self.tiling.vectors)

    def _start(self, b: ir.IRBuilder, tables: Tables) -> Carried:
        """Biases, loaded for each pixel: pipes that copy registers multiply."""
        sums = []
        for _ in range(self.tiling.pixels):
            pointer = b.opaque(tables.bias)
            sums += [entries(b, pointer, v, I32) for v in range(self.tiling.vectors)]
        return sums

    def _add(
        self, b: ir.IRBuilder, sums: Carried, x: Sequence[Value], w: Value, steps: int
    ) -> Carried:
        pixels, vectors = self.tiling.pixels, self.tiling.vectors
        taken = [self._planes(b, pointer, steps) for pointer in x]
        result = list(sums)
        for step in range(steps):
            weights = [
                load(b, at(b, w, (step * vectors + v) * GROUP * LANES), _BYTES)
                for v in range(vectors)
            ]
            for n in range(len(result)):
                rest, v = divmod(n, vectors)
                plane, pixel = divmod(rest, pixels)
                result[n] = sdot(b, result[n], weights[v], taken[pixel][plane][step])
        return result

    def _planes(self, b: ir.IRBuilder, x: Value, steps: int) -> list[list[Value]]:
        """[plane][step]: four bytes of each, for every channel."""
        if planes_of(self.tiling.spec) == 1:
            return [_by_step(b, load(b, x, _BYTES), steps)]
        first = load(b, x, _BYTES)
        second = load(b, at(b, x, 16), _BYTES) if steps > 2 else first
        low, high = (shuffle(b, first, second, range(k, 32, 2)) for k in (0, 1))
        return [_by_step(b, flipped(b, low), steps), _by_step(b, high, steps)]

    def _scale(self, b: ir.IRBuilder, tables: Tables, v: int) -> Callable[[Sequence[Value]], Value]:
        """(the sums of each plane) -> what `scaled` gives, of one vector."""
        if self.scaling.sums == I32:
            scale = self.scaling.of_vector(b, tables, v)
            return lambda sums: scale(_total(b, sums))
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


def _by_step(b: ir.IRBuilder, x: Value, steps: int) -> list[Value]:
    """Elements of four bytes, which sdot takes by their number."""
    fours = b.bitcast(x, vector(I32, LANES))
    return [b.bitcast(shuffle(b, fours, fours, [k] * LANES), _BYTES) for k in range(steps)]
