"""A residual addition within the packed epilogue of x86; meaning: emit/residual.py."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import I8, I16, I32, Value, load, raw, shuffle, splat, vector
from qcomp.targets.cpu.emit.residual import AddConstants
from qcomp.targets.cpu.x86 import intrinsics as x86


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
