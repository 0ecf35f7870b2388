"""From tiles of i32 sums to stored i8: requantize, saturate, bring into order, store.

Meaning: qcomp.quant.fixed_point.requantize. On x86 the narrow form is five instructions on packed
16-bit lanes; everything else goes through `emit_requantize`, a vector at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.cpu.emit import x86
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Unsigned,
    Value,
    at,
    biased,
    broadcast,
    flipped,
    load,
    raw,
    store_bytes,
    vector,
)
from qcomp.targets.cpu.emit.interleave import back_in_order
from qcomp.targets.cpu.emit.requantize import Saturation, emit_requantize
from qcomp.targets.cpu.emit.residual import (
    AddConstants,
    Addition,
    add_residual,
    widened_pair,
    widened_row,
)
from qcomp.targets.cpu.isa import BIAS, Isa

# One cache line: zero_point, qmin, qmax; the same + BIAS; the constants of an addition.
HEADER_INTS = 16
HEADER_BYTES = 4 * HEADER_INTS
_STORED = 4 * 3  # bytes before the values + BIAS
_ADD = 6  # integers before those of an addition


def header(q: Requantize, addition: Addition | None = None) -> NDArray[np.int32]:
    """The constants of a layer, so that layers can share a kernel."""
    values = np.zeros(HEADER_INTS, np.int32)
    last = addition or q  # saturates last
    stored = [last.zero_point, last.qmin, last.qmax]
    values[:_ADD] = [*stored, *(v + BIAS for v in stored)]
    if addition is not None:
        constants = addition.constants()
        values[_ADD : _ADD + len(constants)] = constants
    return values


@dataclass
class Epilogue:
    """The epilogue of one block of channels.

    `params` points to the layer's header, `tables` to the block's first entry in the first of the
    tables bias, multiplier, shift (and ceiling), which are `table_bytes` apart. The entries of one
    vector of sums follow those of the one before, or lie `vector_bytes` after their begin.
    """

    isa: Isa
    form: Form
    ceiling: bool
    params: Value
    tables: Value
    table_bytes: int
    vector_bytes: int = 0
    _packed: dict[tuple[int, ...], Value] = field(default_factory=dict)
    _add: AddConstants | None = None

    def bias(self, b: ir.IRBuilder, v: int) -> Value:
        return self._table(b, 0, v)

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Sequence[Value]],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value] = (),
    ) -> None:
        """sums[pixel][vector] to the pointer of each pixel; `channels` of the vectors are real.

        `others` point to what a fused residual addition adds to each pixel.
        """
        self._add = None
        self._packed.clear()  # constants of an earlier place may not reach this one
        if self.form is Form.NARROW and self.isa.unsigned:
            self._store_packed(b, sums, to, channels, others)
            return
        assert not others
        lanes = self.isa.lanes
        layer = Saturation.loaded(b, self.params, lanes)
        for v in range(len(sums[0])):
            limits = layer.below(b, self._table(b, 3, v)) if self.ceiling else layer
            multiplier, shift = self._table(b, 1, v), self._table(b, 2, v)
            for pixel, pointer in zip(sums, to, strict=True):
                q = emit_requantize(b, pixel[v], multiplier, shift, self.form, limits)
                count = min(lanes, channels - v * lanes)
                store_bytes(b, q, at(b, pointer, v * lanes), count)

    def store_interleaved(
        self, b: ir.IRBuilder, four: Sequence[Value], to: Sequence[Value], channels: int
    ) -> None:
        """Sums in the order of `interleaved`: `channels` of each of the pixels that share them.

        Constants are loaded once: all results of an epilogue must be stored in one place.
        """
        width = 4 * self.isa.lanes // len(to)
        if self.form is Form.NARROW and self.isa.unsigned:
            q = self.packed(b, four, (0, 1, 2, 3))
            to = [biased(pointer) for pointer in to]
        else:
            parts = [self._requantized(b, sums, v) for v, sums in enumerate(four)]
            q = back_in_order(b, parts)
        for pixel, pointer in enumerate(to):
            store_bytes(b, q, pointer, channels, pixel * width)

    def _requantized(self, b: ir.IRBuilder, sums: Value, v: int) -> Value:
        limits = Saturation.loaded(b, self.params, self.isa.lanes)
        if self.ceiling:
            limits = limits.below(b, self._table(b, 3, v))
        return emit_requantize(
            b, sums, self._table(b, 1, v), self._table(b, 2, v), self.form, limits
        )

    def _table(self, b: ir.IRBuilder, table: int, v: int) -> Value:
        offset = table * self.table_bytes + v * (self.vector_bytes or self.isa.lanes * 4)
        return load(b, at(b, self.tables, offset), vector(I32, self.isa.lanes))

    def _store_packed(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Sequence[Value]],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value],
    ) -> None:
        """Four vectors of sums at a time become one of bytes."""
        count = len(sums[0])
        flat = [(p, v) for p in range(len(sums)) for v in range(count)]
        for first in range(0, len(flat), 4):
            real = flat[first : first + 4]
            four = real + [real[-1]] * (4 - len(real))
            vs = tuple(v for _, v in four)
            added = [self._other(b, others, four[i : i + 2]) for i in (0, 2) if others]
            q = self.packed(b, [sums[p][v] for p, v in four], vs, added)
            q = in_order(b, q)
            for start, length in _runs(real):
                pixel, v = real[start]
                size = min(length * self.isa.lanes, channels - v * self.isa.lanes)
                place = at(b, to[pixel], v * self.isa.lanes)
                store_stored(b, q, place, size, start * self.isa.lanes)

    def packed(
        self,
        b: ir.IRBuilder,
        four: Sequence[Value],
        vs: tuple[int, ...],
        others: Sequence[Value] = (),
    ) -> Value:
        """Four vectors of sums, of the channel vectors `vs`, to bytes + BIAS in packed order.

        `others` are what a residual addition adds to the first and to the last two, as i16.
        """
        halves = []
        for i in (0, 2):
            a, c = (b.ashr(four[i + j], self._shift(b, vs[i + j])) for j in (0, 1))
            t = x86.packssdw(b, a, c)
            scaled = x86.pmulhrsw(b, t, self._pair(b, 1, vs[i : i + 2]))
            if others:
                addition = self._addition(b, t.type.count)
                scaled = add_residual(b, scaled, others[i // 2], addition)
            halves.append(x86.saturating_add(b, scaled, self._zero_point(b, t.type.count)))
        q = x86.packuswb(b, *halves)
        limits = [self._limit(b, n, q.type.count) for n in (1, 2)]
        q = _larger(b, q, limits[0])
        if self.ceiling:
            q = _smaller(b, q, self._ceilings(b, vs))
        return _smaller(b, q, limits[1])

    def _shift(self, b: ir.IRBuilder, v: int) -> Value:
        return self._once((2, v), lambda: self._table(b, 2, v))

    def _pair(self, b: ir.IRBuilder, table: int, vs: tuple[int, ...]) -> Value:
        return self._once(
            (table, *vs), lambda: x86.packssdw(b, *(self._table(b, table, v) for v in vs))
        )

    def _ceilings(self, b: ir.IRBuilder, vs: tuple[int, ...]) -> Value:
        def make() -> Value:
            pairs = (self._pair(b, 3, vs[i : i + 2]) for i in (0, 2))
            bias = broadcast(b, ir.Constant(I16, BIAS), 2 * self.isa.lanes)
            return x86.packuswb(b, *(b.add(pair, bias) for pair in pairs))

        return self._once((3, *vs, -1), make)

    def _other(
        self, b: ir.IRBuilder, others: Sequence[Value], two: Sequence[tuple[int, int]]
    ) -> Value:
        """The bytes to add to two vectors, given as (pixel, vector)."""
        lanes = self.isa.lanes
        first, second = (at(b, others[p], v * lanes) for p, v in two)
        (p, v), after = two
        if after == (p, v + 1):
            return widened_row(b, first, lanes)
        return widened_pair(b, first, second, lanes)

    def _addition(self, b: ir.IRBuilder, lanes: int) -> AddConstants:
        if self._add is None:
            self._add = AddConstants.loaded(b, at(b, self.params, 4 * _ADD), lanes)
        return self._add

    def _zero_point(self, b: ir.IRBuilder, lanes: int) -> Value:
        return self._once(
            (-1,), lambda: broadcast(b, load(b, at(b, self.params, _STORED), I16, 2), lanes)
        )

    def _limit(self, b: ir.IRBuilder, n: int, lanes: int) -> Value:
        """qmin (1) or qmax (2), + BIAS."""
        slot = at(b, self.params, _STORED + 4 * n)
        return self._once((-1, n), lambda: broadcast(b, load(b, slot, I8), lanes))

    def _once(self, key: tuple[int, ...], make: Callable[[], Value]) -> Value:
        if key not in self._packed:
            self._packed[key] = make()
        return self._packed[key]


def in_order(b: ir.IRBuilder, q: Value) -> Value:
    """Bytes of four vectors as packs leave them, to one vector after the other."""
    lanes = q.type.count // 16  # of 128 bits
    if lanes == 1:
        return q
    order = [i * 4 + j for j in range(4) for i in range(lanes)]
    dwords = b.bitcast(q, vector(I32, q.type.count // 4))
    return b.bitcast(x86.permute_dwords(b, dwords, order), q.type)


def store_stored(b: ir.IRBuilder, q: Value, pointer: Value, count: int, first: int = 0) -> None:
    """Store `count` lanes, from lane `first`, of bytes that already are + BIAS."""
    if not isinstance(pointer, Unsigned):
        q = flipped(b, q)
    store_bytes(b, q, raw(pointer), count, first)


def _runs(real: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, length) of stretches that lie in one pixel, side by side."""
    starts = [i for i, (p, v) in enumerate(real) if i == 0 or real[i - 1] != (p, v - 1)] + [
        len(real)
    ]
    return [(a, z - a) for a, z in itertools.pairwise(starts)]


def _larger(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.select(b.icmp_unsigned(">", x, y), x, y)


def _smaller(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.select(b.icmp_unsigned("<", x, y), x, y)
