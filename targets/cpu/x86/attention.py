"""Entries of tables of 32 i16 on x86: one vpermw of 512 bits, or four pshufb of shorter vectors.

Meaning: qcomp.quant.attention.exponentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_rows import ENTRIES
from qcomp.targets.cpu.emit.builder import I8, I16, Value, at, load, shuffle, splat, vector
from qcomp.targets.cpu.vectors import Vectors
from qcomp.targets.cpu.x86 import intrinsics as x86

_ROW = 16  # bytes that pshufb picks from
_MISS = 0x80  # of an index: pshufb gives 0


@dataclass(frozen=True)
class PermutedWeights:
    """AVX-512 BW: a register holds a table."""

    def table(self, b: ir.IRBuilder, pointer: Value) -> Any:
        return load(b, pointer, vector(I16, ENTRIES), 2)

    def entries(self, b: ir.IRBuilder, table: Any, index: Value) -> Value:
        return x86.vpermw(b, table, index)

    def mulhrs(self, b: ir.IRBuilder, x: Value, y: Value) -> Value:
        return x86.pmulhrsw(b, x, y)


@dataclass(frozen=True)
class ShuffledWeights:
    """Low and high bytes of the first and of the last 16 entries, which are looked up apart.

    Of an index below 16, 112 more has no bit 7 and 16 less has it; of others it is the other way.
    """

    vectors: Vectors

    def table(self, b: ir.IRBuilder, pointer: Value) -> Any:
        parts = []
        for half in range(2):
            entries = load(b, at(b, pointer, 2 * _ROW * half), vector(I8, 2 * _ROW), 2)
            for byte in range(2):
                order = [byte + 2 * (i % _ROW) for i in range(self.vectors.bytes)]
                parts.append(shuffle(b, entries, entries, order))
        return parts

    def entries(self, b: ir.IRBuilder, table: Any, index: Value) -> Value:
        words, count = index.type, index.type.count
        bytes_ = vector(I8, 2 * count)
        parts = []
        for half, moved in enumerate((7 * _ROW, -_ROW)):
            at_low = b.and_(b.add(index, splat(I16, count, moved)), splat(I16, count, 0xFF))
            low = b.or_(at_low, splat(I16, count, _MISS << 8))
            high = b.or_(b.shl(at_low, splat(I16, count, 8)), splat(I16, count, _MISS))
            for byte, place in enumerate((low, high)):
                part = x86.pshufb(b, table[2 * half + byte], b.bitcast(place, bytes_))
                parts.append(part)
        return b.bitcast(reduce(b.or_, parts), words)

    def mulhrs(self, b: ir.IRBuilder, x: Value, y: Value) -> Value:
        return x86.pmulhrsw(b, x, y)
