"""Scaled sums to stored results of 8 or 16 bits, on AArch64: zero point, saturation, limits.

Meaning: qcomp.quant.fixed_point.requantize. Zero points and limits have 16 bits, so what saturates
to i32 before they are added and to i16 before it is limited ends where it has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.quant.fixed_point import Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import saturating_add, sqxtn_bytes, sqxtn_words
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    at,
    broadcast,
    larger,
    load,
    shuffle,
    smaller,
    splat,
    store,
    vector,
)

_WORDS = 8  # lanes of i16


@dataclass(frozen=True)
class Results:
    """What the code of a layer does to its results; the rest is data."""

    type: ir.IntType
    moved: bool  # by a zero point that is not 0
    low: bool  # whether there is a limit above the least i16
    high: bool

    @staticmethod
    def of(q: Requantize, type: ir.IntType) -> Results:
        return Results(type, q.zero_point != 0, q.qmin > -(2**15), q.qmax < 2**15 - 1)

    def loaded(self, b: ir.IRBuilder, limits: Value) -> Limits:
        """From [zero point, least, largest], i32."""
        low, high = (
            broadcast(b, load(b, at(b, limits, 4 * n), I16, 4), _WORDS) if wanted else None
            for n, wanted in ((1, self.low), (2, self.high))
        )
        moved = broadcast(b, load(b, limits, I32, 4), _WORDS // 2) if self.moved else None
        return Limits(self.type, moved, low, high)


@dataclass(frozen=True, eq=False)
class Limits:
    """Zero point and limits in every lane; None where they change nothing."""

    type: ir.IntType
    zero_point: Value | None
    low: Value | None
    high: Value | None

    def store(self, b: ir.IRBuilder, scaled: Sequence[Value], to: Value, channels: int) -> None:
        """Neighbouring vectors of four channels, `channels` of which are real."""
        words = [self._words(b, scaled[n : n + 2]) for n in range(0, len(scaled), 2)]
        if self.type == I8:
            pairs = (words[n : n + 2] for n in range(0, len(words), 2))
            words = [sqxtn_bytes(b, pair[0], pair[-1]) for pair in pairs]
        real = min(channels, _WORDS // 2 * len(scaled))
        for n, q in enumerate(words):
            first = n * q.type.count
            _store_lanes(b, q, at(b, to, first * self.type.width // 8), real - first)

    def _words(self, b: ir.IRBuilder, scaled: Sequence[Value]) -> Value:
        """One or two vectors of i32."""
        if self.zero_point is not None:
            scaled = [saturating_add(b, x, self.zero_point) for x in scaled]
        q = sqxtn_words(b, scaled[0], scaled[-1])
        if self.low is not None:
            q = larger(b, q, self.low)
        return q if self.high is None else smaller(b, q, self.high)


def limited(
    b: ir.IRBuilder, scaled: Sequence[Value], zero_point: int, qmin: int, qmax: int, bits: int
) -> Value:
    """sat(scaled + zero_point) of two vectors of i32, with limits that the code knows."""
    if zero_point:
        scaled = [saturating_add(b, x, splat(I32, _WORDS // 2, zero_point)) for x in scaled]
    return limited_words(b, sqxtn_words(b, *scaled), qmin, qmax, bits)


def limited_words(b: ir.IRBuilder, q: Value, qmin: int, qmax: int, bits: int) -> Value:
    if qmin > -(2**15):
        q = larger(b, q, splat(I16, _WORDS, qmin))
    if qmax < 2**15 - 1:
        q = smaller(b, q, splat(I16, _WORDS, qmax))
    return q if bits == 16 else b.trunc(q, vector(I8, _WORDS))


def _store_lanes(b: ir.IRBuilder, value: Value, to: Value, count: int) -> None:
    """Exactly the first `count` lanes, or all, in powers of two."""
    lanes, done = value.type.count, 0
    size = value.type.element.width // 8
    while done < min(count, lanes):
        piece = 1 << ((min(count, lanes) - done).bit_length() - 1)
        part = value if piece == lanes else shuffle(b, value, value, range(done, done + piece))
        store(b, part, at(b, to, done * size))
        done += piece
