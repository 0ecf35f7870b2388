"""The dot products of x86: vpdpbusd, and pmaddwd where there is none.

Both multiply stored activations, value + BIAS as u8, by weights of i8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I32, Value, constant, load, raw, shuffle, vector
from qcomp.targets.cpu.emit.dot import Operand, WideningDot, for_every_channel, positions
from qcomp.targets.cpu.vectors import Vectors
from qcomp.targets.cpu.x86 import intrinsics as x86

_ROW = 16  # bytes that pshufb picks from


@dataclass(frozen=True)
class Vnni:
    """vpdpbusd: four products of u8 and i8 per lane."""

    vectors: Vectors
    row: int = _ROW
    widens: bool = False
    together: int = 1

    def same(self, b: ir.IRBuilder, pointer: Value, groups: int) -> list[Operand]:
        return [self.every(b, load(b, raw(pointer), I32))]

    def every(self, b: ir.IRBuilder, four: Value) -> Operand:
        return (for_every_channel(b, four, self.vectors),)

    def mixed(self, b: ir.IRBuilder, pointer: Value, starts: Sequence[int]) -> Operand:
        return (_picked(b, pointer, starts),)

    def apart(self, b: ir.IRBuilder, x: Value) -> Operand:
        return (x,)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        return (load(b, pointer, vector(I8, self.vectors.bytes)),)

    def add(self, b: ir.IRBuilder, acc: Value, x: Operand, w: Operand) -> Value:
        return x86.vpdpbusd(b, acc, x[0], w[0])


@dataclass(frozen=True)
class Madd(WideningDot):
    """pmaddwd on even and odd bytes, widened to 16 bits: exact, unlike pmaddubsw."""

    signed: bool = False
    pairs: Callable[[ir.IRBuilder, Value, Value], Value] = x86.pmaddwd
    row: int = _ROW

    def mixed(self, b: ir.IRBuilder, pointer: Value, starts: Sequence[int]) -> Operand:
        return self.apart(b, _picked(b, pointer, starts))


def _picked(b: ir.IRBuilder, pointer: Value, starts: Sequence[int]) -> Value:
    """For each lane the four bytes from its start."""
    row = load(b, raw(pointer), vector(I8, _ROW))
    order = positions(starts, _ROW)
    rows = shuffle(b, row, row, [i % _ROW for i in range(len(order))])
    return x86.pshufb(b, rows, constant(I8, order))
