"""The dot products of ARM, which multiply i8 by i8, so that activations are stored as they are.

sdot is one instruction; without it, smull, smlal and sadalp are three for two steps.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import addp, saddlp, sdot, smull
from qcomp.targets.cpu.emit.builder import I8, I32, Value, load, raw, shuffle, vector
from qcomp.targets.cpu.emit.dot import Operand, for_every_channel, positions
from qcomp.targets.cpu.emit.narrow import MakeNarrow
from qcomp.targets.cpu.emit.tile_products import EachStep, Sums
from qcomp.targets.cpu.kernels.gemm import GROUP
from qcomp.targets.cpu.vectors import Vectors

NEON = Vectors(128, 32)
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
        return self.elements(b, load(b, raw(pointer), vector(I32, self.together)), groups)

    def elements(self, b: ir.IRBuilder, fours: Value, groups: int) -> list[Operand]:
        """Of the activations in a register, <4 x i32>."""
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


@dataclass(frozen=True)
class SdotRows(EachStep):
    """By sdot, of activations in registers too."""

    dot: Sdot = Sdot(NEON)
    steps: int = 1

    def taken(self, b: ir.IRBuilder, rows: Sequence[Value], steps: int) -> list[Operand]:
        """Of so many steps; a row is sixteen bytes."""
        (row,) = rows
        return self.dot.elements(b, b.bitcast(row, vector(I32, self.together)), steps)


@dataclass(frozen=True)
class SmullPairs:
    """Products of i8 in i16, of two steps where they fit, which sadalp adds up in i32.

    Two steps' activations are loaded at a time: of four, LLVM spills. The sums of four channels are
    two registers, of channels 0 and 1 and of 2 and 3, in which a channel has two lanes: k 0 and 1
    of each step, and 2 and 3. No sum of two products is more than 2 * 128 * 127 in size where no
    weight is -128. The biases are added in the end.
    """

    row: int = _ROW
    together: int = 2
    pixels: int = 1
    parts: int = 2
    pairs: bool = True
    biased: bool = False
    narrow: MakeNarrow | None = None
    steps: int = 2
    _like = SdotRows()  # how operands lie

    def same(self, b: ir.IRBuilder, pointers: Sequence[Value], steps: int) -> list[Operand]:
        return self._like.same(b, pointers, steps)

    def taken(self, b: ir.IRBuilder, rows: Sequence[Value], steps: int) -> list[Operand]:
        return self._like.taken(b, rows, steps)

    def every(self, b: ir.IRBuilder, steps: Sequence[Value]) -> Operand:
        return self._like.every(b, steps)

    def mixed(self, b: ir.IRBuilder, pointers: Sequence[Value], starts: Sequence[int]) -> Operand:
        return self._like.mixed(b, pointers, starts)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        return self._like.weights(b, pointer)

    def start(self, b: ir.IRBuilder, bias: Value) -> Sums:
        raise NotImplementedError("sums start from zeros: they are not biased")

    def add(self, b: ir.IRBuilder, sums: Sums, x: Sequence[Operand], w: Sequence[Operand]) -> Sums:
        result = []
        for half, total in enumerate(sums):
            products = [
                smull(b, _half(b, a, half), _half(b, c, half))
                for (a,), (c,) in zip(x, w, strict=True)
            ]
            result.append(b.add(total, saddlp(b, functools.reduce(b.add, products))))
        return result

    def totals(self, b: ir.IRBuilder, sums: Sums) -> list[Value]:
        return [addp(b, *sums)]


def _half(b: ir.IRBuilder, x: Value, half: int) -> Value:
    """The low or the high 8 bytes of a vector."""
    first = half * _ROW // 2
    return shuffle(b, x, x, range(first, first + _ROW // 2))
