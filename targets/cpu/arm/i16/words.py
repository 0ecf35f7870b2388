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

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.scale import Scaling, Tables, entries, halves
from qcomp.targets.cpu.arm.i16.tiling import GROUP, LANES, Tiling, planes_of
from qcomp.targets.cpu.arm.i16.walk import Run, Walk
from qcomp.targets.cpu.arm.intrinsics import addp, saddlp_words, smull_words
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
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
    scaling: Scaling
    vectors: int = 1
    together: int = 4

    @property
    def entries(self) -> tuple[int, int, int]:
        return self.scaling.entries

    def tables(self, layer: LayerConstants) -> list[Array]:
        return self.scaling.tables(layer)

    def scaled(self, b: ir.IRBuilder, walk: Walk, tables: Tables) -> list[list[Value]]:
        pixels = range(self.tiling.pixels)
        zeros = [splat(I32, LANES, 0)] * (LANES * len(pixels))
        add = lambda sums, x, w, steps: self._add(b, sums, x, w, steps)  # noqa: E731
        scale = self.scaling.of_vector(b, tables, 0)
        bias = entries(b, tables.bias, 0, self.scaling.sums)
        if self.scaling.sums == I32:
            sums = walk.everything(b, zeros, add)
            return [[scale(b.add(bias, _added(b, _channels(sums, p))))] for p in pixels]
        totals: Carried = halves(b, bias) * len(pixels)

        def join(totals: Carried, run: Run) -> Carried:
            sums = run(zeros)
            found = [x for p in pixels for x in _added_pairs(b, _channels(sums, p))]
            return [b.add(x, y) for x, y in zip(totals, found, strict=True)]

        if walk.steps <= _PART:
            totals = join(totals, lambda sums: walk.everything(b, sums, add))
        else:
            totals = walk.by_parts(b, _PART, totals, add, join)
        return [[scale(totals[2 * p : 2 * p + 2])] for p in pixels]

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
