"""Sums of four products: how each machine adds activations times weights to i32 accumulators.

Weights lie as [channel][4 neighbouring k]; the four activations of these k are the same for all
channels (a broadcast) or vary with the channel (depthwise). A machine without vpdpbusd multiplies
the even and the odd ones apart, widened to 16 bits, and adds products in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from qcomp.targets.cpu.emit import x86
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    broadcast,
    constant,
    load,
    raw,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.isa import Dot, Isa

GROUP = 4  # neighbouring k that lie together
ROW = 16  # bytes that channels may have different ones of

Operand = tuple[Value, ...]  # bytes, or their even and odd ones as i16


@dataclass(frozen=True)
class DotProduct:
    """The dot products of one instruction set, on vectors of `lanes` channels."""

    isa: Isa

    @property
    def lanes(self) -> int:
        return self.isa.lanes

    def same(self, b: ir.IRBuilder, four: Value) -> Operand:
        """Four stored activations, an i32, for every channel."""
        every = broadcast(b, four, self.lanes)
        return self.apart(b, b.bitcast(every, vector(I8, 4 * self.lanes)))

    def mixed(self, b: ir.IRBuilder, pointer: Value, starts: Sequence[int]) -> Operand:
        """For each channel the four stored activations from its start within 16 bytes; x86 only."""
        row = load(b, raw(pointer), vector(I8, ROW))
        order = [min(start + i, ROW - 1) for start in starts for i in range(GROUP)]
        rows = shuffle(b, row, row, [i % ROW for i in range(len(order))])
        return self.apart(b, x86.pshufb(b, rows, constant(I8, order)))

    def apart(self, b: ir.IRBuilder, x: Value) -> Operand:
        """Stored activations [lane][4]: four for each channel."""
        return (x,) if self.isa.dot is Dot.VNNI else _alternate(b, x, signed=not self.isa.unsigned)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        """The weights of `lanes` channels, [lane][4]."""
        w = load(b, pointer, vector(I8, 4 * self.lanes))
        return (w,) if self.isa.dot is Dot.VNNI else _alternate(b, w, signed=True)

    def add(self, b: ir.IRBuilder, acc: Value, x: Operand, w: Operand) -> Value:
        """acc + x * w, <lanes x i32>."""
        if self.isa.dot is Dot.VNNI:
            return x86.vpdpbusd(b, acc, x[0], w[0])
        for part, v in zip(x, w, strict=True):
            acc = b.add(acc, self._pairs(b, part, v))
        return acc

    def _pairs(self, b: ir.IRBuilder, x: Value, w: Value) -> Value:
        """|products| <= 255 * 127: the sum of two fits i32."""
        if self.isa.dot is Dot.MADD:
            return x86.pmaddwd(b, x, w)
        wide = vector(I32, x.type.count)
        products = b.mul(b.sext(x, wide), b.sext(w, wide))
        even, odd = (range(k, x.type.count, 2) for k in (0, 1))
        return b.add(shuffle(b, products, products, even), shuffle(b, products, products, odd))


def _alternate(b: ir.IRBuilder, x: Value, *, signed: bool) -> tuple[Value, Value]:
    """Bytes as i16: the even and the odd ones."""
    pairs = b.bitcast(x, vector(I16, x.type.count // 2))
    eight = splat(I16, pairs.type.count, 8)
    shift = b.ashr if signed else b.lshr
    return shift(b.shl(pairs, eight), eight), shift(pairs, eight)
