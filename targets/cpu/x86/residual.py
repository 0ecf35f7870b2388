"""The other operand of a residual addition, in the order of the packed epilogue of x86."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I16, I32, Value, load, raw, shuffle, vector
from qcomp.targets.cpu.x86 import intrinsics as x86


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
