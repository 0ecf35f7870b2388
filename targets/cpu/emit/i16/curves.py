"""Tables of functions of an i16 that are interpolated: what a machine has to say about these.

Meaning: qcomp.ir.evaluate.integer_elementwise (Interpolate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qcomp.ir.ops import Interpolate
from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.i16.elementwise import interpolate
from qcomp.targets.cpu.emit.i16.entries import Neighbours
from qcomp.targets.cpu.emit.nest import Body


class Curves(Protocol):
    """How one machine interpolates."""

    @property
    def neighbours(self) -> Neighbours:
        """Entries beside each other, of any table."""

    def data(self, op: Interpolate, table: Array) -> Array:
        """What `body` reads, of the op's table."""

    def body(self, b: ir.IRBuilder, op: Interpolate, table: Value) -> Body:
        """The body of a loop over elements."""


@dataclass(frozen=True)
class PlainCurves:
    """From the table as it is, by pairs of entries."""

    neighbours: Neighbours

    def data(self, op: Interpolate, table: Array) -> Array:
        return table

    def body(self, b: ir.IRBuilder, op: Interpolate, table: Value) -> Body:
        return lambda b, values, lanes: interpolate(b, values[0], table, op, self.neighbours)
