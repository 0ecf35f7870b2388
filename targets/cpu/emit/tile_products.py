"""The products of a register tile: activations of some pixels times weights, added to i32 sums.

`TileProducts` is what a machine has to say about the matrix kernels in vector registers, whose
weights lie as `Packing` says; `EachStep` says it for a machine whose dot product (emit/dot.py) adds
one step to the sums of one pixel and one vector of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.dot import DotProduct, Operand
from qcomp.targets.cpu.emit.narrow import MakeNarrow

Sums = Sequence[Value]  # of `pixels` pixels and one vector of channels: `parts` registers


class TileProducts(Protocol):
    """One machine's, for vectors of as many channels as it has i32 lanes."""

    @property
    def row(self) -> int:
        """Bytes that `mixed` reads activations from; 0 where the machine does not mix them."""

    @property
    def together(self) -> int:
        """Neighbouring steps whose activations one load brings."""

    @property
    def pixels(self) -> int:
        """How many are multiplied at once."""

    @property
    def parts(self) -> int:
        """Registers of their sums for one vector of channels."""

    @property
    def pairs(self) -> bool:
        """Whether two steps are added at once, where no weight is -128."""

    @property
    def biased(self) -> bool:
        """Whether sums start from the biases; else these are added to the totals."""

    @property
    def narrow(self) -> MakeNarrow | None:
        """The narrow epilogue of sums as they are; None: the machine's, of totals."""

    def same(self, b: ir.IRBuilder, pointers: Sequence[Value], steps: int) -> list[Operand]:
        """The stored activations of up to `together` steps of each pixel, for every channel.

        May read 64 bytes past their end.
        """

    def every(self, b: ir.IRBuilder, steps: Sequence[Value]) -> Operand:
        """The stored activations of a step of each pixel, an integer, for every channel."""

    def mixed(self, b: ir.IRBuilder, pointers: Sequence[Value], starts: Sequence[int]) -> Operand:
        """For each channel the four stored activations from its start within `row` bytes."""

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        """The weights of one vector of channels."""

    def start(self, b: ir.IRBuilder, bias: Value) -> Sums:
        """What sums that are `biased` start from: the biases of a vector, for each pixel."""

    def add(self, b: ir.IRBuilder, sums: Sums, x: Sequence[Operand], w: Sequence[Operand]) -> Sums:
        """sums + x * w, of one step or, where `pairs` are allowed, two."""

    def totals(self, b: ir.IRBuilder, sums: Sums) -> list[Value]:
        """A vector of i32 for each pixel."""


@dataclass(frozen=True)
class EachStep:
    """By the dot product of a machine."""

    dot: DotProduct
    pixels: int = 1
    parts: int = 1
    pairs: bool = False
    biased: bool = True
    narrow: MakeNarrow | None = None

    @property
    def row(self) -> int:
        return self.dot.row

    @property
    def together(self) -> int:
        return self.dot.together

    def same(self, b: ir.IRBuilder, pointers: Sequence[Value], steps: int) -> list[Operand]:
        (pointer,) = pointers
        return self.dot.same(b, pointer, steps)

    def every(self, b: ir.IRBuilder, steps: Sequence[Value]) -> Operand:
        (four,) = steps
        return self.dot.every(b, four)

    def mixed(self, b: ir.IRBuilder, pointers: Sequence[Value], starts: Sequence[int]) -> Operand:
        (pointer,) = pointers
        return self.dot.mixed(b, pointer, starts)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        return self.dot.weights(b, pointer)

    def start(self, b: ir.IRBuilder, bias: Value) -> Sums:
        return [bias]

    def add(self, b: ir.IRBuilder, sums: Sums, x: Sequence[Operand], w: Sequence[Operand]) -> Sums:
        ((total,), (operand,), (weights,)) = sums, x, w
        return [self.dot.add(b, total, operand, weights)]

    def totals(self, b: ir.IRBuilder, sums: Sums) -> list[Value]:
        return list(sums)
