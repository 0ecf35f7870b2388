"""From i32 sums to results of 8 or 16 bits by the high halves of products, in lanes of 32 bits.

Of the form WIDE, with a shift of 33 or more (a factor below a quarter):

    (acc * m + 2^(shift-1)) >> shift  =  (high + 2^(shift-33)) >> (shift - 32),
    high = (acc * m) >> 32

as floors nest and 2^(shift-1) is a multiple of 2^32. The zero point joins the rounding. Sums that
have room are shifted up first, which is exact, so that channels of larger factors get there too.

Meaning: qcomp.quant.fixed_point.requantize in the form WIDE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.quant.qparams import integer_range
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Value,
    at,
    broadcast,
    clamp,
    load,
    shuffle,
    smaller,
    splat,
    store,
    store_bytes,
    vector,
)
from qcomp.targets.cpu.emit.i16.spec import LayerConstants
from qcomp.targets.cpu.x86 import intrinsics as x86

_LEAST_SHIFT = 33


@dataclass(frozen=True)
class HighHalves:
    """How the sums of a layer are scaled.

    raised: whether any are shifted up first; limited: whether limits are closer than those of the
    type; ceiling: whether channels have limits of their own.
    """

    raised: bool
    limited: bool
    ceiling: bool

    @staticmethod
    def of(layer: LayerConstants, source: ir.IntType) -> HighHalves | None:
        """None where sums, or what is added to them, may leave 32 bits."""
        if layer.bias.dtype != np.int32:
            return None
        up = _up(layer)
        sums = _largest(layer, source) << up.astype(object)
        high = (sums * layer.multiplier.astype(object) >> 32) + 1
        added = np.abs(_rounding(layer).astype(object))
        if max(sums.max(), (high + added).max()) >= 2**31:
            return None
        q = layer.requantize
        limited = (q.qmin, q.qmax) != integer_range(q.bits)
        return HighHalves(bool(up.any()), limited, layer.ceiling is not None)

    def tables(self, layer: LayerConstants) -> tuple[Array, ...]:
        """By channel, i32: multiplier, rounding, shift of high halves, that of sums, ceiling."""
        up = _up(layer)
        found = [layer.multiplier, _rounding(layer), layer.shift + up - 32]
        found += [up] * self.raised
        found += [] if layer.ceiling is None else [layer.ceiling]
        return tuple(t.astype(np.int32) for t in found)

    def scaled(self, b: ir.IRBuilder, acc: Value, tables: Sequence[Value]) -> Value:
        """Results in i32 lanes, not saturated; `tables` as those of `tables`."""
        multiplier, rounding, shift, *more = tables
        if self.raised:
            acc = b.shl(acc, more[0])
        x = b.ashr(b.add(_high(b, acc, multiplier), rounding), shift)
        return smaller(b, x, more[-1]) if self.ceiling else x


def _up(layer: LayerConstants) -> Array:
    """How far each channel's sums are shifted up."""
    return np.asarray(np.maximum(_LEAST_SHIFT - layer.shift.astype(np.int64), 0))


def _largest(layer: LayerConstants, source: ir.IntType) -> Array:
    """Of the magnitudes of each channel's sums, as Python integers; also of parts of a sum."""
    weight = np.abs(layer.weight.astype(np.int64)).reshape(layer.bias.size, -1).sum(axis=1)
    most = (1 << (source.width - 1)) + abs(layer.offset)
    largest: Array = np.abs(layer.bias.astype(object)) + weight.astype(object) * most
    return largest


def _rounding(layer: LayerConstants) -> Array:
    """2^(shift-33) + zero_point * 2^(shift-32), i64."""
    shift = layer.shift.astype(np.int64) + _up(layer)
    one, zero_point = np.int64(1), np.int64(layer.requantize.zero_point)
    return np.asarray((one << (shift - 33)) + (zero_point << (shift - 32)))


def _high(b: ir.IRBuilder, x: Value, multiplier: Value) -> Value:
    """(x * multiplier) >> 32 in i32 lanes: even and odd ones are multiplied where they are."""
    lanes = x.type.count
    pairs = vector(I64, lanes // 2)
    thirty_two = splat(I64, lanes // 2, 32)

    def product(x: Value, m: Value) -> Value:
        """Of the low halves of i64 lanes."""
        low = (b.ashr(b.shl(v, thirty_two), thirty_two) for v in (x, m))
        return b.bitcast(b.mul(*low), vector(I32, lanes))

    x, m = b.bitcast(x, pairs), b.bitcast(multiplier, pairs)
    even, odd = product(x, m), product(b.lshr(x, thirty_two), b.lshr(m, thirty_two))
    order = [i for lane in range(1, lanes, 2) for i in (lane, lanes + lane)]
    return shuffle(b, even, odd, order)


@dataclass(frozen=True, eq=False)
class Results:
    """Saturates scaled sums and stores them; `low` and `high` are i16 scalars or None."""

    type: ir.IntType
    low: Value | None
    high: Value | None

    @staticmethod
    def of(b: ir.IRBuilder, type: ir.IntType, scale: HighHalves, limits: Value) -> Results:
        """`limits` is a pointer to what `Saturation.loaded` reads."""
        if not scale.limited and type.width == 16:
            return Results(type, None, None)
        low, high = (b.trunc(load(b, at(b, limits, 4 * i), I32, 4), I16) for i in (1, 2))
        return Results(type, low, high)

    def store_pair(
        self, b: ir.IRBuilder, first: Value, second: Value, to: Value, channels: int
    ) -> None:
        """Two vectors in the order that packssdw makes whole; the first `channels` of them."""
        self._store(b, x86.packssdw(b, first, second), to, channels)

    def store_one(self, b: ir.IRBuilder, x: Value, to: Value, channels: int) -> None:
        """A vector in order."""
        self._store(b, _words(b, x), to, channels)

    def store_halves(self, b: ir.IRBuilder, x: Value, to: Sequence[Value], channels: int) -> None:
        """The first `channels` of each half of a vector, to one place each."""
        x = self._limited(b, _words(b, x))
        half = x.type.count // 2
        for n, place in enumerate(to):
            part = shuffle(b, x, x, range(n * half, (n + 1) * half))
            _store_first(b, part, place, channels)

    def _store(self, b: ir.IRBuilder, x: Value, to: Value, channels: int) -> None:
        _store_first(b, self._limited(b, x), to, channels)

    def _limited(self, b: ir.IRBuilder, x: Value) -> Value:
        """Words as results."""
        lanes = x.type.count
        if self.low is not None:
            low, high = broadcast(b, self.low, lanes), broadcast(b, self.high, lanes)
            x = b.select(b.icmp_signed("<", x, low), low, x)
            x = b.select(b.icmp_signed(">", x, high), high, x)
        return b.trunc(x, vector(I8, lanes)) if self.type.width == 8 else x


def _words(b: ir.IRBuilder, x: Value) -> Value:
    return b.trunc(clamp(b, x, -(2**15), 2**15 - 1), vector(I16, x.type.count))


def _store_first(b: ir.IRBuilder, x: Value, to: Value, channels: int) -> None:
    """No more than the first lanes."""
    lanes = x.type.count
    if channels >= lanes:
        store(b, x, to)
    elif x.type.element == I8:
        store_bytes(b, x, to, channels)
    else:
        store_bytes(b, b.bitcast(x, vector(I8, 2 * lanes)), to, 2 * channels)


def pack_order(lanes: int) -> Array:
    """Of 2 * `lanes` channels, those of one vector of sums and then of the other, for packssdw."""
    eights = np.arange(2 * lanes).reshape(-1, 2, 4)
    return eights.transpose(1, 0, 2).reshape(-1)
