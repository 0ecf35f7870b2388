"""Sums of products on x86: pairs of i16 by vpdpwssd or pmaddwd, four bytes by `DotProduct`."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I16, I32, Value, broadcast, load, raw, vector
from qcomp.targets.cpu.emit.dot import DotProduct, Operand
from qcomp.targets.cpu.emit.i16.spec import PAIR
from qcomp.targets.cpu.kernels.gemm import GROUP
from qcomp.targets.cpu.vectors import Vectors
from qcomp.targets.cpu.x86 import intrinsics as x86


def add_pairs(b: ir.IRBuilder, acc: Value, x: Value, w: Value, *, fused: bool) -> Value:
    """acc + sums of two neighbouring products of i16; the caller certifies that they fit."""
    if fused:
        return x86.vpdpwssd(b, acc, x, w)
    return b.add(acc, x86.pmaddwd(b, x, w))


@dataclass(frozen=True)
class Words:
    """As `DotProduct` for bytes: `group` neighbouring activations of i16, for every channel."""

    vectors: Vectors
    fused: bool
    group: int = PAIR

    def same(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        every = broadcast(b, load(b, raw(pointer), I32), self.vectors.lanes)
        return (b.bitcast(every, vector(I16, PAIR * self.vectors.lanes)),)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        count = PAIR * self.vectors.lanes
        return (b.sext(load(b, pointer, vector(I8, count)), vector(I16, count)),)

    def add(self, b: ir.IRBuilder, acc: Value, x: Operand, w: Operand) -> Value:
        return add_pairs(b, acc, x[0], w[0], fused=self.fused)


@dataclass(frozen=True)
class Bytes:
    """The machine's dot product of bytes, as `Words`."""

    dot: DotProduct
    group: int = GROUP

    def same(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        return self.dot.same(b, pointer, 1)[0]

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        return self.dot.weights(b, pointer)

    def add(self, b: ir.IRBuilder, acc: Value, x: Operand, w: Operand) -> Value:
        return self.dot.add(b, acc, x, w)
