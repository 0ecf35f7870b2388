"""Tables of 256 bytes in sixteen registers: tbl looks up 64 entries at a time.

It gives 0 for an index beyond its registers, and an index with two bits flipped is beyond those of
all quarters but one: or joins what they find. tbx, which keeps what was found before, waits for
that, and takes longer on most cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import tbl
from qcomp.targets.cpu.emit.builder import I8, Value, at, load, splat, vector
from qcomp.targets.cpu.emit.lanes import first_lanes, in_lanes
from qcomp.targets.cpu.emit.nest import Body
from qcomp.targets.cpu.emit.table import by_unsigned

_ROW = 16  # bytes of a register
_PART = 64  # entries of four


@dataclass(frozen=True)
class TblTables:
    """Entries by the byte that selects them."""

    stored: bool = False

    def data(self, table: NDArray[np.int8]) -> NDArray[np.uint8]:
        return by_unsigned(table)

    def body(self, b: ir.IRBuilder, table: Value) -> Body:
        parts = quarters(b, table)

        def body(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
            return first_lanes(b, looked_up(b, in_lanes(b, values[0], _ROW), parts), lanes)

        return body


def quarters(b: ir.IRBuilder, table: Value) -> list[list[Value]]:
    """Four registers each."""
    rows = [load(b, at(b, table, n), vector(I8, _ROW), _ROW) for n in range(0, 256, _ROW)]
    return [rows[n : n + _PART // _ROW] for n in range(0, len(rows), _PART // _ROW)]


def looked_up(b: ir.IRBuilder, x: Value, parts: Sequence[Sequence[Value]]) -> Value:
    """The entries that sixteen bytes select, of four quarters in four registers each."""
    flips = (splat(I8, _ROW, (n * _PART + 128) % 256 - 128) for n in range(1, len(parts)))
    indices = [x, *(b.xor(x, flip) for flip in flips)]
    return reduce(b.or_, (tbl(b, part, i) for part, i in zip(parts, indices, strict=True)))
