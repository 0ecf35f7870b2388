"""The weights of a row of scores, in vectors: exponentials from a table of 32 entries of 16 bits.

Two vectors of scores become one of i16, in which all else is done. `RowInstructions` is what a
machine has to say; `PortableRows` says it in instructions that every machine has.

Meaning: qcomp.quant.attention.exponentials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    Value,
    at,
    load,
    shuffle,
    smaller_unsigned,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.words import word, word_type
from qcomp.targets.cpu.kernels.attention import AttentionSpec

ENTRIES = 32  # of a table
_FULL = 2**15 - 1
_LAST = 15  # the largest shift of 16 bits


class RowInstructions(Protocol):
    """What rows of weights ask a machine for, on vectors of i16."""

    def table(self, b: ir.IRBuilder, pointer: Value) -> Any:
        """A table of 32 i16, as `entries` wants it."""

    def entries(self, b: ir.IRBuilder, table: Any, index: Value) -> Value:
        """table[index], 0 <= index < 32."""

    def mulhrs(self, b: ir.IRBuilder, x: Value, y: Value) -> Value:
        """(x * y + 2^14) >> 15 of numbers that are not negative."""


@dataclass(frozen=True)
class PortableRows:
    """A load for each entry, products of 32 bits."""

    def table(self, b: ir.IRBuilder, pointer: Value) -> Any:
        return pointer

    def entries(self, b: ir.IRBuilder, table: Any, index: Value) -> Value:
        found = ir.undefined(index.type)
        for lane in range(index.type.count):
            place = ir.Constant(I32, lane)
            entry = b.zext(b.extract_element(index, place), word_type(b))
            slot = at(b, table, b.shl(entry, word(b, 1)))
            found = b.insert_element(found, load(b, slot, I16, 2), place)
        return found

    def mulhrs(self, b: ir.IRBuilder, x: Value, y: Value) -> Value:
        wide = vector(I32, x.type.count)
        product = b.mul(b.zext(x, wide), b.zext(y, wide))
        rounded = b.add(product, splat(I32, x.type.count, 1 << 14))
        return b.trunc(b.lshr(rounded, splat(I32, x.type.count, 15)), x.type)


@dataclass(frozen=True, eq=False)
class RowWeights:
    """The code of `spec`'s weights at one place; `tables` are the registers of its tables."""

    spec: AttentionSpec
    by: RowInstructions
    tables: Sequence[Any]

    @staticmethod
    def loaded(
        b: ir.IRBuilder, spec: AttentionSpec, by: RowInstructions, table: Value
    ) -> RowWeights:
        count = 1 if spec.probability_bits == 8 else 2
        tables = [by.table(b, at(b, table, 2 * ENTRIES * n)) for n in range(count)]
        return RowWeights(spec, by, tables)

    def of(self, b: ir.IRBuilder, distances: Sequence[Value]) -> Value:
        """Of two vectors of i32, how far scores are below the largest: a vector of i16."""
        low, high = (self._bounded(b, d) for d in distances)
        t = shuffle(b, low, high, range(2 * low.type.count))
        t = b.trunc(t, vector(I16, t.type.count))
        u = self.by.mulhrs(b, t, splat(I16, t.type.count, self.spec.multiplier))
        return self._narrow(b, u) if self.spec.probability_bits == 8 else self._fine(b, u)

    def _bounded(self, b: ir.IRBuilder, distance: Value) -> Value:
        """Scaled, at most 2^15 - 1; no sum of what is rounded leaves u32."""
        lanes, shift = distance.type.count, self.spec.score_shift
        if shift > 0:
            half = splat(I32, lanes, 1 << (shift - 1))
            distance = b.lshr(b.add(distance, half), splat(I32, lanes, shift))
        full = splat(I32, lanes, _FULL)
        t = smaller_unsigned(b, distance, full)
        if shift < 0:
            t = smaller_unsigned(b, b.shl(t, splat(I32, lanes, -shift)), full)
        return t

    def _narrow(self, b: ir.IRBuilder, u: Value) -> Value:
        """rsh(table[u mod 32], (u >> 5) + 7): the last bit of the shift rounds."""
        c = _Constants(u)
        entry = self.by.entries(b, self.tables[0], b.and_(u, c(31)))
        shift = smaller_unsigned(b, b.add(b.lshr(u, c(5)), c(6)), c(_LAST))
        return b.lshr(b.add(b.lshr(entry, shift), c(1)), c(1))

    def _fine(self, b: ir.IRBuilder, u: Value) -> Value:
        """rsh(mulhrs(table[(u >> 5) mod 32], table[32 + u mod 32]), u >> 10), in u16."""
        c = _Constants(u)
        coarse = self.by.entries(b, self.tables[0], b.and_(b.lshr(u, c(5)), c(31)))
        fine = self.by.entries(b, self.tables[1], b.and_(u, c(31)))
        product = self.by.mulhrs(b, coarse, fine)
        shift = b.lshr(u, c(10))
        is_gone = b.icmp_unsigned(">", shift, c(_LAST))
        shifted = b.lshr(b.shl(product, c(1)), smaller_unsigned(b, shift, c(_LAST)))
        return b.select(is_gone, c(0), b.lshr(b.add(shifted, c(1)), c(1)))


@dataclass(frozen=True, eq=False)
class _Constants:
    like: Value

    def __call__(self, n: int) -> Value:
        return splat(I16, self.like.type.count, n)
