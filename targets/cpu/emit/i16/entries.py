"""Entries of a table of i32 beside each other, for elements that each have an index."""

from __future__ import annotations

from collections.abc import Callable

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, Value, at, load, vector
from qcomp.targets.cpu.emit.words import word, word_type

Neighbours = Callable[[ir.IRBuilder, Value, Value], Value]
"""(table, i32 lanes) to i64 lanes: entry [index] in the low half, entry [index + 1] in the high."""


def loaded_neighbours(b: ir.IRBuilder, table: Value, index: Value) -> Value:
    """One load for each element."""
    lanes = index.type.count
    both = ir.undefined(vector(I64, lanes))
    for lane in range(lanes):
        where = ir.Constant(I32, lane)
        entry = b.zext(b.extract_element(index, where), word_type(b))
        slot = at(b, table, b.shl(entry, word(b, 2)))
        both = b.insert_element(both, load(b, slot, I64, 4), where)
    return both
