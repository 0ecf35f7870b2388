"""Rows of a table, by indices: one copy of a row for each.

Meaning: qcomp.ir.evaluate.embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I64, Value, at, i64, load, loop, multiple, store, vector
from qcomp.targets.cpu.emit.lanes import powers
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import in_bits, word_type


@dataclass(frozen=True)
class Rows:
    """What the code depends on: bytes of an index and of an element, the table, and a vector.

    `first` is the index of row 0, `row` the elements of one, `width` those of a vector;
    with `wraps` places below 0 count from the end.
    """

    index_bytes: int
    element_bytes: int
    first: int
    rows: int
    row: int
    width: int
    wraps: bool

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers to indices, table and result, all without gaps; the span is of indices."""
        indices, table, result = pointers
        bytes_ = self.row * self.element_bytes

        def visit(i: Value) -> None:
            slot = at(b, indices, multiple(b, i, self.index_bytes))
            source = multiple(b, self._place(b, load(b, slot, self._index)), bytes_)
            self._copy(b, at(b, table, source), at(b, result, multiple(b, i, bytes_)))

        Span(begin, end).loop(b, visit)
        b.ret_void()

    @property
    def _index(self) -> ir.IntType:
        return ir.IntType(8 * self.index_bytes)

    def _place(self, b: ir.IRBuilder, index: Value) -> Value:
        """Within the table, whatever the index is."""
        place = b.sub(b.sext(index, I64), i64(self.first))
        if self.wraps:
            counted = b.add(place, i64(self.rows))
            place = b.select(b.icmp_signed("<", place, i64(0)), counted, place)
        place = b.select(b.icmp_signed("<", place, i64(0)), i64(0), place)
        last = i64(self.rows - 1)
        place = b.select(b.icmp_signed(">", place, last), last, place)
        return place if word_type(b) == I64 else in_bits(b, place, word_type(b))

    def _copy(self, b: ir.IRBuilder, source: Value, target: Value) -> None:
        type, blocks = ir.IntType(8 * self.element_bytes), self.row // self.width

        def move(offset: Value | int, lanes: int) -> None:
            element = load(b, at(b, source, offset), vector(type, lanes))
            store(b, element, at(b, target, offset))

        step = self.width * self.element_bytes
        loop(b, blocks, lambda i: move(multiple(b, i, step), self.width), "block")
        for start, lanes in powers(self.row % self.width):
            move(blocks * step + start * self.element_bytes, lanes)
