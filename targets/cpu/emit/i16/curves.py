"""Tables of functions of an i16 that are interpolated: what a machine has to say about these.

Meaning: qcomp.ir.evaluate.integer_elementwise (Interpolate).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qcomp.ir.ops import Interpolate
from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.i16.elementwise import interpolate
from qcomp.targets.cpu.emit.i16.entries import Neighbours
from qcomp.targets.cpu.emit.nest import Body


@dataclass(frozen=True, eq=False)
class Curve:
    """How one op is computed.

    data: what the body reads.
    make: (builder, pointer to the data) to the body of a loop over elements. It depends on the op
    and on `lanes`, not on what is in the table.
    lanes: how many elements the body takes at once; None: as many as other bodies.
    """

    data: Array
    make: Callable[[ir.IRBuilder, Value], Body]
    lanes: int | None = None


class Curves(Protocol):
    """How one machine interpolates."""

    @property
    def neighbours(self) -> Neighbours:
        """Entries beside each other, of any table."""

    def curve(self, op: Interpolate, table: Array) -> Curve:
        """The op, whose table is i32 [entries]."""


@dataclass(frozen=True)
class PlainCurves:
    """From the table as it is, by pairs of entries."""

    neighbours: Neighbours

    def curve(self, op: Interpolate, table: Array) -> Curve:
        def make(b: ir.IRBuilder, pointer: Value) -> Body:
            return lambda b, values, lanes: interpolate(b, values[0], pointer, op, self.neighbours)

        return Curve(table, make)
