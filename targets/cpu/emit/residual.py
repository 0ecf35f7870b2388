"""A residual addition within the packed epilogue of x86.

Meaning: qcomp.ir.evaluate.integer_elementwise (QAdd). The sum fits 16 bits by the op's contract;
pmulhrsw by 2^(15 - f) is the rounding shift by f >= 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

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
from qcomp.targets.cpu.isa import BIAS


@dataclass(frozen=True)
class Addition:
    """own = clip(scaled sums, low, high), other - other_zero_point; both << 7, times Q15, added."""

    low: int
    high: int
    multiplier: int
    other_multiplier: int
    other_zero_point: int
    fraction_bits: int
    zero_point: int
    qmin: int
    qmax: int

    def constants(self) -> tuple[int, ...]:
        """What `AddConstants.loaded` reads, each in 32 bits."""
        return (
            self.low,
            self.high,
            self.multiplier,
            self.other_multiplier,
            self.other_zero_point + BIAS,
            1 << (15 - self.fraction_bits),
        )


@dataclass(frozen=True, eq=False)
class AddConstants:
    """The constants of an addition in every lane of i16."""

    low: Value
    high: Value
    multiplier: Value
    other_multiplier: Value
    other_zero_point: Value
    rounding: Value

    @staticmethod
    def loaded(b: ir.IRBuilder, pointer: Value, lanes: int) -> AddConstants:
        slots = (at(b, pointer, 4 * i) for i in range(len(fields(AddConstants))))
        return AddConstants(*(broadcast(b, load(b, slot, I16, 2), lanes) for slot in slots))


def add_residual(b: ir.IRBuilder, scaled: Value, other: Value, constants: AddConstants) -> Value:
    """The sum without its zero point, i16 lanes; `other` are stored bytes, widened."""
    c = constants
    own = _clipped(b, scaled, c.low, c.high)
    seven = splat(I16, scaled.type.count, 7)
    own = x86.pmulhrsw(b, b.shl(own, seven), c.multiplier)
    centred = b.sub(other, c.other_zero_point)
    term = x86.pmulhrsw(b, b.shl(centred, seven), c.other_multiplier)
    return x86.pmulhrsw(b, b.add(own, term), c.rounding)


def widened_pair(b: ir.IRBuilder, first: Value, second: Value, lanes: int) -> Value:
    """`lanes` stored bytes at each of two places, as i16 in the order that packssdw leaves."""
    dwords = vector(I32, lanes // 4)
    x, y = (load(b, raw(p), dwords) for p in (first, second))
    return _widened(b, shuffle(b, x, y, _packed_order(lanes)))


def widened_row(b: ir.IRBuilder, first: Value, lanes: int) -> Value:
    """`widened_pair` where the second place follows the first."""
    both = load(b, raw(first), vector(I32, lanes // 2))
    order = _packed_order(lanes)
    permuted = x86.permute_dwords if len(order) == 8 else _shuffled
    return _widened(b, permuted(b, both, order))


def _packed_order(lanes: int) -> list[int]:
    """Dwords of two neighbours, alternating."""
    return [i + k * (lanes // 4) for i in range(lanes // 4) for k in (0, 1)]


def _shuffled(b: ir.IRBuilder, x: Value, order: Sequence[int]) -> Value:
    return shuffle(b, x, x, order)


def _widened(b: ir.IRBuilder, dwords: Value) -> Value:
    count = 4 * dwords.type.count
    return b.zext(b.bitcast(dwords, vector(I8, count)), vector(I16, count))


def _clipped(b: ir.IRBuilder, x: Value, low: Value, high: Value) -> Value:
    x = b.select(b.icmp_signed(">", x, low), x, low)
    return b.select(b.icmp_signed("<", x, high), x, high)
