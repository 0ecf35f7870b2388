"""Tables of 256 bytes: what a machine has to say about lookups, and one load per element.

Meaning: qcomp.ir.evaluate.integer_elementwise (Table).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I32, Value, at, load, splat, vector
from qcomp.targets.cpu.emit.nest import Body
from qcomp.targets.cpu.emit.words import word_type
from qcomp.targets.cpu.storage import BIAS


class ByteTables(Protocol):
    """How one machine looks bytes up."""

    @property
    def stored(self) -> bool:
        """Whether bodies work on value + BIAS, whatever the operands are stored as."""

    def data(self, table: NDArray[np.int8]) -> NDArray[np.uint8]:
        """What `body` reads."""

    def body(self, b: ir.IRBuilder, table: Value) -> Body:
        """The body of a loop over elements; the table's registers are loaded here."""


@dataclass(frozen=True)
class ScalarTables:
    """One load per element, from the table by the byte that selects an entry."""

    stored: bool = False

    def data(self, table: NDArray[np.int8]) -> NDArray[np.uint8]:
        return by_unsigned(table)

    def body(self, b: ir.IRBuilder, table: Value) -> Body:
        return lambda b, values, lanes: _scalars(b, values[0], table)


def by_unsigned(table: NDArray[np.int8]) -> NDArray[np.uint8]:
    """The entries in the order of the bytes that select them, taken as unsigned."""
    return np.roll(table, BIAS).view(np.uint8)


def by_unsigned_pairs(table: NDArray[np.int8]) -> NDArray[np.uint8]:
    """The entries of pairs of bytes, the first of which counts 256, in that order."""
    return np.roll(table.reshape(256, 256), (BIAS, BIAS), axis=(0, 1)).reshape(-1).view(np.uint8)


def pair_body(table: Value) -> Body:
    """The body of a loop over pairs; the table is `by_unsigned_pairs`."""

    def body(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
        first, second = (b.zext(x, vector(I32, lanes)) for x in values)
        return _scalars(b, b.or_(b.shl(first, splat(I32, lanes, 8)), second), table)

    return body


def _scalars(b: ir.IRBuilder, x: Value, table: Value) -> Value:
    """table[x], x unsigned, lane by lane."""
    lanes = x.type.count
    result = ir.undefined(vector(I8, lanes))
    for lane in range(lanes):
        index = ir.Constant(I32, lane)
        slot = at(b, table, b.zext(b.extract_element(x, index), word_type(b)))
        result = b.insert_element(result, load(b, slot, I8), index)
    return result
