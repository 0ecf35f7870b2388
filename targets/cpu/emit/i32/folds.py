"""Sums of pooling and reductions with operands or results of 32 bits.

Meanings: qcomp.ir.evaluate.pooling (QAveragePool2d), reduction (QReduceSum).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from qcomp.quant.fixed_point import Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    I64,
    Value,
    at,
    broadcast,
    i64,
    load,
    multiple,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.folds import Fold, Position
from qcomp.targets.cpu.emit.i32.scale import Limits, scaled, scaled_by
from qcomp.targets.cpu.emit.pooling import PoolFold
from qcomp.targets.cpu.emit.words import in_bits


def average_pool(x_zero_point: int, shift: int, q: Requantize, multipliers: Value) -> PoolFold:
    """requantize(sum of (x - zero_point) over the taps inside); multipliers i32 by their number."""

    def step(b: ir.IRBuilder, acc: Value, x: Value) -> Value:
        return b.add(acc, b.sext(x, acc.type))

    def finish(b: ir.IRBuilder, acc: Value, count: Value | int) -> Value:
        lanes = acc.type.count
        offset = multiple(b, count, x_zero_point)
        zero = i64(offset) if isinstance(offset, int) else in_bits(b, offset, I64)
        centred = b.sub(acc, broadcast(b, zero, lanes))
        multiplier = load(b, at(b, multipliers, multiple(b, count, 4)), I32, 4)
        x = scaled(b, centred, broadcast(b, multiplier, lanes), splat(I32, lanes, shift))
        return Limits.of(q, lanes).saturated(b, x)

    return PoolFold(I64, 0, step, lambda b, x, y: b.add(x, y), finish)


def requantized_sum(
    source: ir.IntType, count: int, x_zero_point: int, multiplier: int, shift: int, q: Requantize
) -> Fold:
    """requantize(sum - count * zero_point), in i64."""

    def step(b: ir.IRBuilder, acc: Value, xs: Sequence[Value], where: Position) -> Value:
        wide = vector(I64, acc.type.count)
        return reduce(b.add, [b.sext(x, wide) for x in xs], acc)

    def finish(b: ir.IRBuilder, acc: Value) -> Value:
        lanes = acc.type.count
        centred = b.sub(acc, splat(I64, lanes, count * x_zero_point))
        return Limits.of(q, lanes).saturated(b, scaled_by(b, centred, multiplier, shift))

    add = lambda b, x, y: b.add(x, y)  # noqa: E731
    return Fold(I64, 0, ir.IntType(q.bits), step, add, finish, source)
