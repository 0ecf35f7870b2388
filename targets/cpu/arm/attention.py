"""Entries of tables of 32 i16 on AArch64: one tbl of two registers for each of their bytes.

Meaning: qcomp.quant.attention.exponentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import sqrdmulh, tbl_pair
from qcomp.targets.cpu.emit.attention_rows import ENTRIES
from qcomp.targets.cpu.emit.builder import I8, I16, Value, load, shuffle, splat, vector

_REGISTER = 16  # bytes


@dataclass(frozen=True)
class LookedUpWeights:
    """Low bytes of all entries in two registers, high bytes in two; tbl gives 0 beyond them."""

    def table(self, b: ir.IRBuilder, pointer: Value) -> Any:
        entries = load(b, pointer, vector(I8, 2 * ENTRIES), 2)
        return [
            [
                shuffle(b, entries, entries, range(2 * first + byte, 2 * (first + _REGISTER), 2))
                for first in (0, _REGISTER)
            ]
            for byte in range(2)
        ]

    def entries(self, b: ir.IRBuilder, table: Any, index: Value) -> Value:
        count = index.type.count
        beyond = splat(I16, count, 0xFF00), splat(I16, count, 0x00FF)
        places = (index, b.shl(index, splat(I16, count, 8)))
        found = [
            tbl_pair(b, planes, b.bitcast(b.or_(place, none), vector(I8, 2 * count)))
            for planes, place, none in zip(table, places, beyond, strict=True)
        ]
        return b.bitcast(b.or_(found[0], found[1]), index.type)

    def mulhrs(self, b: ir.IRBuilder, x: Value, y: Value) -> Value:
        return sqrdmulh(b, x, y)
