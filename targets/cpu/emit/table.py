"""Tables of 256 bytes: lookups in registers on x86, one load per element elsewhere.

Meaning: qcomp.ir.evaluate.integer_elementwise (Table). On x86 tables hold value + BIAS for each
value + BIAS, so that stored bytes go in and come out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qcomp.targets.cpu.emit import x86
from qcomp.targets.cpu.emit.builder import I8, I32, I64, Value, at, load, shuffle, splat, vector
from qcomp.targets.cpu.emit.nest import Body
from qcomp.targets.cpu.emit.packed import first_lanes, in_lanes
from qcomp.targets.cpu.isa import BIAS, Isa

_ROW = 16  # entries that one pshufb looks up
_HALF = 8  # rows of which a byte without bit 7 selects one


def table_data(table: NDArray[np.int8], isa: Isa) -> NDArray[np.uint8]:
    """What `table_body` reads: the table by the byte that selects an entry."""
    if not isa.unsigned:
        return np.roll(table, BIAS).view(np.uint8)
    stored = table.view(np.uint8) ^ np.uint8(BIAS)
    return stored if isa.byte_permute else _differences(stored.reshape(-1, _ROW))


def table_body(b: ir.IRBuilder, isa: Isa, table: Value) -> Body:
    """The body of a loop over elements; the table's registers are loaded here."""
    if not isa.unsigned:
        return lambda b, values, lanes: _scalars(b, values[0], table)
    if isa.byte_permute:
        parts = quarters(b, table)
        return lambda b, values, lanes: permuted(b, values[0], parts)
    width = isa.vector_bits // 8
    rows = [_row(b, at(b, table, _ROW * n), width) for n in range(2 * _HALF)]
    return lambda b, values, lanes: _selected(b, values[0], rows)


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
    """The xor of S[k][x & 15] over the k for which x - 16 k has no bit 7.

    x < 128: k <= x / 16, as later differences are negative: to -128 exactly, then they saturate.
    x >= 128: x / 16 - 7 <= k <= x / 16.
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


def _scalars(b: ir.IRBuilder, x: Value, table: Value) -> Value:
    """table[x as an unsigned byte], lane by lane."""
    lanes = x.type.count
    result = ir.Constant(vector(I8, lanes), ir.Undefined)
    for lane in range(lanes):
        index = ir.Constant(I32, lane)
        slot = at(b, table, b.zext(b.extract_element(x, index), I64))
        result = b.insert_element(result, load(b, slot, I8), index)
    return result
