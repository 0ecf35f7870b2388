"""Sums of 16-bit activations in lanes of 16 bits (smlal), on every AArch64 processor.

Weights lie by four neighbouring k of each channel, so the lanes of a register of sums are these k,
of one channel: four registers for a vector of channels. An activation register is four neighbouring
k, twice, and weights are widened as they are loaded, once for all pixels of a tile. addp adds the
lanes up in the end.

Sums of products in a lane fit i32 for `_PART` steps, whatever the values are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.products import Tables
from qcomp.targets.cpu.arm.i16.scale import (
    doubled,
    halves,
    product_of_pair,
    products_of_words,
    scaled_pairs,
    scaled_words,
    shifts_in_words,
)
from qcomp.targets.cpu.arm.i16.tiling import GROUP, LANES, Tiling, planes_of
from qcomp.targets.cpu.arm.i16.walk import Run, Walk
from qcomp.targets.cpu.arm.intrinsics import addp, saddlp_words, smull_words
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Carried,
    Value,
    at,
    load,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.i16.spec import LayerConstants

MOST_PIXELS = 4
_PART = 511  # of products up to 2^22
_WORDS = vector(I16, 8)


@dataclass(frozen=True)
class Words:
    """Of one vector; sums [pixel][channel], flat."""

    tiling: Tiling
    words: bool  # whether `scaled_words` takes the sums
    vectors: int = 1

    @property
    def entries(self) -> tuple[int, int, int]:
        return self.tiling.spec.sums.width // 8, 4, 4 if self.words else 8

    def tables(self, layer: LayerConstants) -> list[Array]:
        m, s = layer.multiplier.astype(np.int64), layer.shift.astype(np.int64)
        if self.words:
            m, s = doubled(m, s)
            return [layer.bias, m.astype(np.int32), shifts_in_words(s)]
        return [layer.bias, m.astype(np.int32), -s]

    def scaled(self, b: ir.IRBuilder, walk: Walk, tables: Tables) -> list[list[Value]]:
        pixels = range(self.tiling.pixels)
        zeros = [splat(I32, LANES, 0)] * (LANES * len(pixels))
        add = lambda sums, x, w, steps: self._add(b, sums, x, w, steps)  # noqa: E731
        multiplier = load(b, tables.multiplier, vector(I32, LANES))
        if self.tiling.spec.sums == I32:
            bias = load(b, tables.bias, vector(I32, LANES))
            sums = walk.everything(b, zeros, add)
            totals = [b.add(bias, _added(b, _channels(sums, p))) for p in pixels]
            if self.words:
                shift = load(b, tables.shift, vector(I32, LANES))
                return [[scaled_words(b, total, multiplier, shift)] for total in totals]
            products = [products_of_words(b, total, multiplier) for total in totals]
        else:
            pairs: Carried = halves(b, load(b, tables.bias, vector(I64, LANES))) * len(pixels)

            def join(pairs: Carried, run: Run) -> Carried:
                sums = run(zeros)
                found = [x for p in pixels for x in _added_pairs(b, _channels(sums, p))]
                return [b.add(x, y) for x, y in zip(pairs, found, strict=True)]

            if walk.steps <= _PART:
                pairs = join(pairs, lambda sums: walk.everything(b, sums, add))
            else:
                pairs = walk.by_parts(b, _PART, pairs, add, join)
            factors = halves(b, multiplier)
            products = [
                [product_of_pair(b, pairs[2 * p + h], factors[h]) for h in (0, 1)] for p in pixels
            ]
        shifts = halves(b, load(b, tables.shift, vector(I64, LANES)))
        return [[scaled_pairs(b, product, shifts)] for product in products]

    def _add(
        self, b: ir.IRBuilder, sums: Carried, x: Sequence[Value], w: Value, steps: int
    ) -> Carried:
        taken = [self._steps(b, pointer, steps) for pointer in x]
        result = list(sums)
        for step in range(steps):
            row = load(b, at(b, w, step * GROUP * self.tiling.block), vector(I8, 16))
            wide = [b.sext(shuffle(b, row, row, range(n, n + 8)), _WORDS) for n in (0, 8)]
            weights = [part for two in wide for part in _quarters(b, two)]
            for n in range(len(result)):
                pixel, channel = divmod(n, LANES)
                part = _quarters(b, taken[pixel][step])[channel % 2]
                result[n] = b.add(result[n], smull_words(b, weights[channel], part))
        return result

    def _steps(self, b: ir.IRBuilder, x: Value, steps: int) -> list[Value]:
        """Four activations of each step, twice."""
        found = []
        for first in range(0, steps, 2):
            place = at(b, x, first * GROUP * planes_of(self.tiling.spec))
            values = b.sext(load(b, place, vector(self.tiling.spec.source, 8)), _WORDS)
            starts = range(0, GROUP * min(2, steps - first), GROUP)
            found += [shuffle(b, values, values, [*range(k, k + GROUP)] * 2) for k in starts]
        return found


def _quarters(b: ir.IRBuilder, x: Value) -> list[Value]:
    """The low and the high four of eight lanes."""
    return [shuffle(b, x, x, range(n, n + 4)) for n in (0, 4)]


def _channels(sums: Carried, pixel: int) -> Carried:
    return sums[LANES * pixel : LANES * (pixel + 1)]


def _added(b: ir.IRBuilder, four: Carried) -> Value:
    """The lanes of each channel added up."""
    return addp(b, *(addp(b, four[n], four[n + 1]) for n in (0, 2)))


def _added_pairs(b: ir.IRBuilder, four: Carried) -> list[Value]:
    """The same in i64, as two vectors."""
    wide = [saddlp_words(b, x) for x in four]
    return [addp(b, wide[n], wide[n + 1]) for n in (0, 2)]
