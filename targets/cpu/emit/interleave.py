"""Vectors of bytes as their elements by fours: the unpacks of x86, the zips of ARM."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I16, Value, shuffle, vector
from qcomp.targets.cpu.emit.lanes import zipped


def interleaved(b: ir.IRBuilder, rows: Sequence[Value]) -> list[Value]:
    """Up to four vectors of i8 to four of [channel][4 rows]; a missing row is any other.

    Vector v has channels 4v..4v+3 of each 128-bit lane: four vectors of i32 in this order are
    what packs (i32 to i16 to i8) bring back into the order of the bytes.
    """
    first, second, third, fourth = [*rows, *[rows[-1]] * (4 - len(rows))]
    quarters = []
    for high in (False, True):
        pairs = (zipped(b, first, second, high=high), zipped(b, third, fourth, high=high))
        x, y = (b.bitcast(pair, vector(I16, pair.type.count // 2)) for pair in pairs)
        quarters += [zipped(b, x, y, high=half) for half in (False, True)]
    return [b.bitcast(quarter, vector(I8, 2 * quarter.type.count)) for quarter in quarters]


def back_in_order(b: ir.IRBuilder, quarters: Sequence[Value]) -> Value:
    """Four vectors of i8 whose elements are those of `interleaved` to one of all channels."""
    order = [
        4 * lane + element + quarter * quarters[0].type.count
        for lane in range(quarters[0].type.count // 4)
        for quarter in range(4)
        for element in range(4)
    ]
    return shuffle(b, joined(b, quarters[:2]), joined(b, quarters[2:]), order)


def joined(b: ir.IRBuilder, parts: Sequence[Value]) -> Value:
    """One vector after the other; a power of two of them."""
    while len(parts) > 1:
        parts = [
            shuffle(b, x, y, range(2 * x.type.count))
            for x, y in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]
