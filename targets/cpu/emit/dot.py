"""Sums of four products: how each machine adds activations times weights to i32 accumulators.

Weights lie as [channel][4 neighbouring k]; the four activations of these k are the same for all
channels (a broadcast) or vary with the channel (depthwise). An accumulator is one vector where the
machine adds four products at once, else two whose neighbouring lanes belong to one channel.
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
    at,
    broadcast,
    load,
    raw,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.isa import Dot, Isa

GROUP = 4  # neighbouring k that lie together

Accumulator = tuple[Value, ...]


@dataclass(frozen=True)
class DotProduct:
    """The dot products of one instruction set, on vectors of `lanes` channels."""

    isa: Isa

    @property
    def lanes(self) -> int:
        return self.isa.lanes

    @property
    def parts(self) -> int:
        """Vectors of one accumulator."""
        return 1 if self.isa.dot is Dot.VNNI else 2

    def start(self, b: ir.IRBuilder, bias: Value) -> Accumulator:
        """An accumulator that holds the bias, <lanes x i32>."""
        if self.isa.dot is Dot.VNNI:
            return (bias,)
        zero = splat(I32, self.lanes, 0)
        low, high = range(self.lanes // 2), range(self.lanes // 2, self.lanes)
        spread = [
            shuffle(b, bias, zero, [i for lane in half for i in (lane, self.lanes)])
            for half in (low, high)
        ]
        return tuple(spread)

    def same(self, b: ir.IRBuilder, pointer: Value) -> Value:
        """Four stored activations, for every channel."""
        four = load(b, raw(pointer), I32)
        if self.isa.dot is Dot.VNNI:
            return b.bitcast(broadcast(b, four, self.lanes), vector(I8, 4 * self.lanes))
        half = b.bitcast(broadcast(b, four, self.lanes // 2), vector(I8, 2 * self.lanes))
        return self._widened(b, half)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> tuple[Value, ...]:
        """The weights of `lanes` channels."""
        if self.isa.dot is Dot.VNNI:
            return (load(b, pointer, vector(I8, 4 * self.lanes)),)
        half = vector(I8, 2 * self.lanes)
        return tuple(
            b.sext(load(b, at(b, pointer, 2 * self.lanes * i), half), vector(I16, 2 * self.lanes))
            for i in (0, 1)
        )

    def add(self, b: ir.IRBuilder, acc: Accumulator, x: Value, w: Sequence[Value]) -> Accumulator:
        """acc + x * w; `x` is of `same`."""
        if self.isa.dot is Dot.VNNI:
            return (x86.vpdpbusd(b, acc[0], x, w[0]),)
        return tuple(b.add(part, self._pairs(b, x, v)) for part, v in zip(acc, w, strict=True))

    def finish(self, b: ir.IRBuilder, acc: Accumulator) -> Value:
        """The sums, <lanes x i32>."""
        if self.isa.dot is Dot.VNNI:
            return acc[0]
        even, odd = (range(k, 2 * self.lanes, 2) for k in (0, 1))
        low, high = acc
        return b.add(shuffle(b, low, high, even), shuffle(b, low, high, odd))

    def apart(self, b: ir.IRBuilder, x: Value) -> tuple[Value, ...]:
        """Stored activations [lane][4], four for each channel, as `add_apart` wants them."""
        return (x,) if self.isa.dot is Dot.VNNI else _alternate(b, x, signed=not self.isa.unsigned)

    def add_apart(self, b: ir.IRBuilder, acc: Value, x: Sequence[Value], weights: Value) -> Value:
        """acc + x * w, <lanes x i32>; `x` is of `apart`, `weights` points to [lane][4]."""
        w = load(b, weights, vector(I8, 4 * self.lanes))
        if self.isa.dot is Dot.VNNI:
            return x86.vpdpbusd(b, acc, x[0], w)
        for part, v in zip(x, _alternate(b, w, signed=True), strict=True):
            acc = b.add(acc, self._pairs(b, part, v))
        return acc

    def _widened(self, b: ir.IRBuilder, x: Value) -> Value:
        """Stored activations as i16."""
        wide = vector(I16, x.type.count)
        return b.zext(x, wide) if self.isa.unsigned else b.sext(x, wide)

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
