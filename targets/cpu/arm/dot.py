"""The dot product of ARM: sdot multiplies i8 by i8, so activations are stored as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import sdot
from qcomp.targets.cpu.emit.builder import I8, I32, Value, load, raw, shuffle, vector
from qcomp.targets.cpu.emit.dot import Operand, for_every_channel, positions
from qcomp.targets.cpu.kernels.gemm import GROUP
from qcomp.targets.cpu.vectors import Vectors

_ROW = 16  # bytes of a vector


@dataclass(frozen=True)
class Sdot:
    """Four products per lane.

    An activation of a vector is an operand by its element, so one load of 16 bytes serves four
    groups of k and takes one register.
    """

    vectors: Vectors
    row: int = _ROW
    widens: bool = False
    together: int = _ROW // GROUP

    def same(self, b: ir.IRBuilder, pointer: Value, groups: int) -> list[Operand]:
        if groups == 1:
            return [self.every(b, load(b, raw(pointer), I32))]
        fours = load(b, raw(pointer), vector(I32, self.together))
        bytes_ = vector(I8, _ROW)
        elements = (shuffle(b, fours, fours, [k] * self.together) for k in range(groups))
        return [(b.bitcast(element, bytes_),) for element in elements]

    def every(self, b: ir.IRBuilder, four: Value) -> Operand:
        return (for_every_channel(b, four, self.vectors),)

    def mixed(self, b: ir.IRBuilder, pointer: Value, starts: Sequence[int]) -> Operand:
        """One tbl: the order is a constant."""
        row = load(b, raw(pointer), vector(I8, _ROW))
        return (shuffle(b, row, row, positions(starts, _ROW)),)

    def apart(self, b: ir.IRBuilder, x: Value) -> Operand:
        return (x,)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        return (load(b, pointer, vector(I8, _ROW)),)

    def add(self, b: ir.IRBuilder, acc: Value, x: Operand, w: Operand) -> Value:
        return sdot(b, acc, w[0], x[0])
