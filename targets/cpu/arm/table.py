"""Tables of 256 bytes in sixteen registers: tbl and tbx look up 64 entries at a time.

tbl gives 0 for an index beyond its registers, tbx what was found before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import tbl, tbx
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
        type = vector(I8, _ROW)
        rows = [load(b, at(b, table, n), type, _ROW) for n in range(0, 256, _ROW)]
        parts = [rows[n : n + _PART // _ROW] for n in range(0, len(rows), _PART // _ROW)]

        def body(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
            x = in_lanes(b, values[0], _ROW)
            found = tbl(b, parts[0], x)
            for part in parts[1:]:
                x = b.sub(x, splat(I8, _ROW, _PART))
                found = tbx(b, found, part, x)
            return first_lanes(b, found, lanes)

        return body
