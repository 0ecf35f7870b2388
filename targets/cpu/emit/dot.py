"""Sums of four products: activations times weights, added to i32 accumulators.

Weights lie as [channel][4 neighbouring k]; the four activations of these k are the same for all
channels (a broadcast) or vary with the channel (depthwise). `DotProduct` is what a machine has to
say about it, `WideningDot` says it in instructions that every machine has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    broadcast,
    load,
    raw,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.kernels.gemm import GROUP
from qcomp.targets.cpu.vectors import Vectors

Operand = tuple[Value, ...]  # the vectors that bytes are multiplied as


class DotProduct(Protocol):
    """The dot products of one machine, on vectors of as many channels as it has i32 lanes."""

    @property
    def row(self) -> int:
        """Bytes that `mixed` reads activations from; 0 where the machine does not mix them."""

    @property
    def widens(self) -> bool:
        """Whether weights are widened after they are loaded, so that loads cannot be folded."""

    @property
    def together(self) -> int:
        """Neighbouring groups of k whose activations one load brings."""

    def same(self, b: ir.IRBuilder, pointer: Value, groups: int) -> list[Operand]:
        """The stored activations of up to `together` groups of k, for every channel.

        May read 64 bytes past their end.
        """

    def every(self, b: ir.IRBuilder, four: Value) -> Operand:
        """Four stored activations, an i32, for every channel."""

    def mixed(self, b: ir.IRBuilder, pointer: Value, starts: Sequence[int]) -> Operand:
        """For each channel the four stored activations from its start within `row` bytes."""

    def apart(self, b: ir.IRBuilder, x: Value) -> Operand:
        """Stored activations [lane][4]: four for each channel."""

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        """The weights of one vector of channels, [lane][4]."""

    def add(self, b: ir.IRBuilder, acc: Value, x: Operand, w: Operand) -> Value:
        """acc + x * w, a vector of i32."""


@dataclass(frozen=True)
class WideningDot:
    """Products of 16 bits of the even and the odd bytes, of activations that are stored signed or
    not; `pairs` are the sums of two neighbouring products.
    """

    vectors: Vectors
    signed: bool
    pairs: Callable[[ir.IRBuilder, Value, Value], Value]
    row: int = 0
    widens: bool = True
    together: int = 1

    def same(self, b: ir.IRBuilder, pointer: Value, groups: int) -> list[Operand]:
        return [self.every(b, load(b, raw(pointer), I32))]

    def every(self, b: ir.IRBuilder, four: Value) -> Operand:
        return self.apart(b, for_every_channel(b, four, self.vectors))

    def mixed(self, b: ir.IRBuilder, pointer: Value, starts: Sequence[int]) -> Operand:
        raise NotImplementedError("groups of channels are not mixed: row is 0")

    def apart(self, b: ir.IRBuilder, x: Value) -> Operand:
        return even_and_odd(b, x, signed=self.signed)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        return even_and_odd(b, load(b, pointer, vector(I8, self.vectors.bytes)), signed=True)

    def add(self, b: ir.IRBuilder, acc: Value, x: Operand, w: Operand) -> Value:
        """|products| <= 255 * 127: the sum of two fits i32."""
        for part, v in zip(x, w, strict=True):
            acc = b.add(acc, self.pairs(b, part, v))
        return acc


def positions(starts: Sequence[int], row: int) -> list[int]:
    """For each start the four bytes from it, within `row` bytes."""
    return [min(start + i, row - 1) for start in starts for i in range(GROUP)]


def for_every_channel(b: ir.IRBuilder, four: Value, vectors: Vectors) -> Value:
    """Four bytes, an i32, in every lane."""
    every = broadcast(b, four, vectors.lanes)
    return b.bitcast(every, vector(I8, vectors.bytes))


def even_and_odd(b: ir.IRBuilder, x: Value, *, signed: bool) -> tuple[Value, Value]:
    """Bytes as i16: the even and the odd ones."""
    pairs = b.bitcast(x, vector(I16, x.type.count // 2))
    eight = splat(I16, pairs.type.count, 8)
    shift = b.ashr if signed else b.lshr
    return shift(b.shl(pairs, eight), eight), shift(pairs, eight)


def sums_of_pairs(b: ir.IRBuilder, x: Value, w: Value) -> Value:
    """Sums of two neighbouring products of i16, as i32; the caller certifies that they fit."""
    wide = vector(I32, x.type.count)
    products = b.mul(b.sext(x, wide), b.sext(w, wide))
    even, odd = (range(k, x.type.count, 2) for k in (0, 1))
    return b.add(shuffle(b, products, products, even), shuffle(b, products, products, odd))
