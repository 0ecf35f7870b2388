"""From tiles of i32 sums to stored i8: requantize, saturate, bring into order, store.

Meaning: qcomp.quant.fixed_point.requantize. On x86 the narrow form is five instructions on packed
16-bit lanes; everything else goes through `emit_requantize`, a vector at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.emit.builder import I32, Value, at, biased, load, store_bytes, vector
from qcomp.targets.cpu.emit.interleave import back_in_order
from qcomp.targets.cpu.emit.packing import Packing, in_order
from qcomp.targets.cpu.emit.requantize import Saturation, emit_requantize
from qcomp.targets.cpu.emit.residual import widened_pair, widened_row
from qcomp.targets.cpu.isa import Isa


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
    lookup: bool
    params: Value
    tables: Value
    table_bytes: int
    vector_bytes: int = 0
    _packing: Packing | None = None

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
        if self._is_packed:
            self._packing = None  # constants of an earlier place may not reach this one
            self._store_packed(b, sums, to, channels, others)
            return
        assert not others
        lanes = self.isa.lanes
        for v in range(len(sums[0])):
            requantized = self._requantizer(b, v)
            count = min(lanes, channels - v * lanes)
            for pixel, pointer in zip(sums, to, strict=True):
                store_bytes(b, requantized(pixel[v]), at(b, pointer, v * lanes), count)

    def store_interleaved(
        self, b: ir.IRBuilder, four: Sequence[Value], to: Sequence[Value], channels: int
    ) -> None:
        """Sums in the order of `interleaved`: `channels` of each of the pixels that share them.

        Constants are loaded once: all results of an epilogue must be stored in one place.
        """
        width = 4 * self.isa.lanes // len(to)
        if self._is_packed:
            q = self._constants(b).packed(b, four, (0, 1, 2, 3))
            to = [biased(pointer) for pointer in to]
        else:
            parts = [self._requantizer(b, v)(sums) for v, sums in enumerate(four)]
            q = back_in_order(b, parts)
        for pixel, pointer in enumerate(to):
            store_bytes(b, q, pointer, channels, pixel * width)

    @property
    def _is_packed(self) -> bool:
        return self.form is Form.NARROW and self.isa.unsigned

    def _constants(self, b: ir.IRBuilder) -> Packing:
        if self._packing is None:
            table = lambda t, v: self._table(b, t, v)  # noqa: E731
            self._packing = Packing(self.isa, self.params, table, self.ceiling, self.lookup)
        return self._packing

    def _requantizer(self, b: ir.IRBuilder, v: int) -> Callable[[Value], Value]:
        """Sums of channel vector `v` to i8, by any form; the constants are loaded here."""
        limits = Saturation.loaded(b, self.params, self.isa.lanes)
        if self.ceiling:
            limits = limits.below(b, self._table(b, 3, v))
        multiplier, shift = self._table(b, 1, v), self._table(b, 2, v)
        return lambda sums: emit_requantize(b, sums, multiplier, shift, self.form, limits)

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
            sums_of = [sums[p][v] for p, v in four]
            q = in_order(b, self._constants(b).packed(b, sums_of, vs, added))
            for start, length in _runs(real):
                pixel, v = real[start]
                size = min(length * self.isa.lanes, channels - v * self.isa.lanes)
                place = biased(at(b, to[pixel], v * self.isa.lanes))
                store_bytes(b, q, place, size, start * self.isa.lanes)

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


def _runs(real: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, length) of stretches that lie in one pixel, side by side."""
    starts = [i for i, (p, v) in enumerate(real) if i == 0 or real[i - 1] != (p, v - 1)] + [
        len(real)
    ]
    return [(a, z - a) for a, z in itertools.pairwise(starts)]
