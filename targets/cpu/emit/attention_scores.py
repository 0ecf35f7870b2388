"""A row of scores of an attention with its masks, and the largest of them.

Few vectors stay in registers from here on. Of more, the pass that masks them also finds the largest
and writes them back; that keeps LLVM from storing by a mask, which the loads that follow wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from qcomp.quant.attention import EXCLUDED
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_masks import Where, masked
from qcomp.targets.cpu.emit.builder import (
    I32,
    Carried,
    Value,
    at,
    divided,
    larger,
    load,
    multiple,
    plus,
    repeat,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.dynamic_loop import repeat_trips
from qcomp.targets.cpu.emit.lanes import powers
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.kernels.attention import AttentionSpec, BlockLayout

KEPT_VECTORS = 8  # of scores, in registers

Trip = Callable[[Value | int, Carried], Carried]


@dataclass(frozen=True, eq=False)
class RowScores:
    """At one query; `pairs` of vectors are used."""

    layout: BlockLayout
    masks: Sequence[Value]
    scores: Value
    where: Where
    pairs: Value | int

    @property
    def spec(self) -> AttentionSpec:
        return self.layout.spec

    def vectors(self, b: ir.IRBuilder) -> tuple[Vectors, Value]:
        """All of them, and a vector of the largest of each lane."""
        self._exclude_padding(b)
        if self.spec.skips:
            self._mask_own(b)
            return Vectors(self.layout, self.scores), self._largest(b, 0, self._nothing())
        whole = self.spec.keys // self.layout.lanes if self.spec.excludes else 0
        if self.spec.excludes:
            for start, count in powers(self.spec.keys - whole * self.layout.lanes):
                self._mask(b, whole * self.layout.lanes + start, count)
        count = 2 * self.layout.pairs
        if count <= KEPT_VECTORS:
            kept = [self._masked(b, n) if n < whole else self._loaded(b, n) for n in range(count)]
            top = reduce(lambda x, y: larger(b, x, y), kept)
            return Vectors(self.layout, self.scores, kept), top

        def visit(n: Value | int, tops: Carried) -> Carried:
            found = self._masked(b, n)
            store(b, found, self._place(b, multiple(b, n, self.layout.lanes)))
            return [larger(b, tops[0], found)]

        (top,) = repeat(b, whole, [self._nothing()], visit, "mask")
        return Vectors(self.layout, self.scores), self._largest(b, whole, top)

    def _largest(self, b: ir.IRBuilder, first: int, top: Value) -> Value:
        """Of the vectors from `first` on, and of top."""
        trips = multiple(b, self.pairs, 2)
        trips = trips - first if isinstance(trips, int) else trips

        def visit(n: Value | int, tops: Carried) -> Carried:
            return [larger(b, tops[0], self._loaded(b, plus(b, n, first)))]

        return repeat_trips(b, trips, [top], visit, "top")[0]

    def _nothing(self) -> Value:
        return splat(I32, self.layout.lanes, EXCLUDED)

    def _place(self, b: ir.IRBuilder, key: Value | int) -> Value:
        return at(b, self.scores, multiple(b, key, 4))

    def _loaded(self, b: ir.IRBuilder, n: Value | int) -> Value:
        return Vectors(self.layout, self.scores).at(b, n)

    def _masked(self, b: ir.IRBuilder, n: Value | int) -> Value:
        key = multiple(b, n, self.layout.lanes)
        return masked(b, self.spec, self.masks, self._loaded(b, n), self.where, key)

    def _mask(self, b: ir.IRBuilder, key: Value | int, count: int) -> None:
        """Of the keys that there are, where they lie."""
        place = self._place(b, key)
        found = load(b, place, vector(I32, count))
        store(b, masked(b, self.spec, self.masks, found, self.where, key), place)

    def _mask_own(self, b: ir.IRBuilder) -> None:
        """Where no mask is read: whole vectors; those before the query's own are all seen."""
        lanes = self.layout.lanes
        last = plus(b, self.where.query, self.spec.ahead)
        ends = divided(b, last, lanes)[0], multiple(b, self.pairs, 2)
        begin, end = (word(b, x) if isinstance(x, int) else x for x in ends)
        Span(begin, end).loop(b, lambda n: self._mask(b, multiple(b, n, lanes), lanes), "mask")

    def _exclude_padding(self, b: ir.IRBuilder) -> None:
        """Keys that are not there."""
        for start, count in powers(self.layout.keys - self.spec.keys):
            place = self._place(b, self.spec.keys + start)
            store(b, splat(I32, count, EXCLUDED), place)


@dataclass(frozen=True, eq=False)
class Vectors:
    """Scores as the weights read them: in memory, or in registers."""

    layout: BlockLayout
    scores: Value
    kept: Sequence[Value] | None = None

    def at(self, b: ir.IRBuilder, n: Value | int) -> Value:
        if self.kept is not None and isinstance(n, int):
            return self.kept[n]
        lanes = self.layout.lanes
        return load(b, at(b, self.scores, multiple(b, n, 4 * lanes)), vector(I32, lanes))

    def repeat(
        self, b: ir.IRBuilder, trips: Value | int, carried: Carried, body: Trip
    ) -> Sequence[Value]:
        """body(index, values) -> values for pairs, one after the other where they are kept."""
        if self.kept is None or not isinstance(trips, int):
            return repeat_trips(b, trips, carried, body, "weight")
        for n in range(trips):
            carried = body(n, carried)
        return carried
