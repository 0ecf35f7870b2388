"""Tables of 256 bytes in registers: a byte picks its entry by vpermi2b, or by sixteen pshufb.

Tables hold value + BIAS for each value + BIAS, so that stored bytes go in and come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, Value, at, load, shuffle, splat, vector
from qcomp.targets.cpu.emit.lanes import first_lanes, in_lanes
from qcomp.targets.cpu.emit.nest import Body
from qcomp.targets.cpu.storage import BIAS
from qcomp.targets.cpu.vectors import Vectors
from qcomp.targets.cpu.x86 import intrinsics as x86

_ROW = 16  # entries that one pshufb looks up
_HALF = 8  # rows of which a byte without bit 7 selects one


@dataclass(frozen=True)
class PermutedTables:
    """AVX-512 VBMI: four registers hold a table."""

    stored: bool = True

    def data(self, table: NDArray[np.int8]) -> NDArray[np.uint8]:
        return _stored(table)

    def body(self, b: ir.IRBuilder, table: Value) -> Body:
        parts = quarters(b, table)
        return lambda b, values, lanes: permuted(b, values[0], parts)


@dataclass(frozen=True)
class ShuffledTables:
    """Rows of 16 entries, of which those that a byte reaches are xor'ed."""

    vectors: Vectors
    stored: bool = True

    def data(self, table: NDArray[np.int8]) -> NDArray[np.uint8]:
        return _differences(_stored(table).reshape(-1, _ROW))

    def body(self, b: ir.IRBuilder, table: Value) -> Body:
        rows = [_row(b, at(b, table, _ROW * n), self.vectors.bytes) for n in range(2 * _HALF)]
        return lambda b, values, lanes: _selected(b, values[0], rows)


def _stored(table: NDArray[np.int8]) -> NDArray[np.uint8]:
    return table.view(np.uint8) ^ np.uint8(BIAS)


def _differences(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows whose xor over those that `_selected` reaches is the row looked for.

    P[h] = S[0] ^ ... ^ S[h]. Row h < 8 is reached by S[0..h], so P[h] = T[h]; row h >= 8 by
    S[h-7..h], so P[h] ^ P[h-8] = T[h].
    """
    prefix = rows.copy()
    prefix[_HALF:] ^= rows[:_HALF]
    result = prefix.copy()
    result[1:] ^= prefix[:-1]
    return result.reshape(-1)


def _row(b: ir.IRBuilder, pointer: Value, width: int) -> Value:
    """16 bytes in every 128-bit lane."""
    row = load(b, pointer, vector(I8, _ROW), _ROW)
    return shuffle(b, row, row, [i % _ROW for i in range(width)])


def quarters(b: ir.IRBuilder, table: Value) -> list[Value]:
    """The registers of a table, for `permuted`."""
    return [load(b, at(b, table, 64 * n), vector(I8, 64), 64) for n in range(4)]


def permuted(b: ir.IRBuilder, x: Value, parts: Sequence[Value]) -> Value:
    """table[x] by AVX-512 VBMI."""
    lanes = x.type.count
    x = in_lanes(b, x, 64)
    low, high = (x86.vpermi2b(b, parts[n], parts[n + 1], x) for n in (0, 2))
    is_high = b.icmp_signed("<", x, splat(I8, 64, 0))
    return first_lanes(b, b.select(is_high, high, low), lanes)


def _selected(b: ir.IRBuilder, x: Value, rows: Sequence[Value]) -> Value:
    """Look up x in 16 rows of 16 bytes with pshufb, which gives 0 where an index has bit 7.

    Row k contributes S[k][x & 15] where x - 16 k has no bit 7, and the contributions are xored:
    x < 128 reaches rows 0 to x / 16 (later differences are negative: exact down to -128, saturated
    below), x >= 128 rows x / 16 - 7 to x / 16. The rows hold differences, so that the xor of what
    is reached is the row that x is in.
    """
    lanes = x.type.count
    x = in_lanes(b, x)
    width = x.type.count
    step = splat(I8, width, _ROW)
    result = None
    for k, row in enumerate(rows):
        if k:
            x = b.sub(x, step) if k <= _HALF else x86.saturating_subtract(b, x, step)
        found = x86.pshufb(b, first_lanes(b, row, width), x)
        result = found if result is None else b.xor(result, found)
    return first_lanes(b, result, lanes)
