"""What pooling and reductions do with values: maxima, minima, sums and indices of extremes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from qcomp.ir.ops import Reduction
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Value,
    at,
    broadcast,
    constant,
    flipped,
    larger,
    larger_unsigned,
    load,
    multiple,
    plus,
    smaller,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.pooling import PoolFold
from qcomp.targets.cpu.emit.requantize import emit_requantize_by
from qcomp.targets.cpu.emit.words import in_bits
from qcomp.targets.cpu.storage import BIAS

GROUP = 8  # values that one step of a reduction takes; 8 * 128 fits i16
KEY_BITS = 23  # of the index in a key of argmax; the other bits hold the value


@dataclass(frozen=True)
class Position:
    """Which elements a step sees: lane l of value k is element index + k * step + l * lane."""

    index: Value | int
    step: int
    lane: int


@dataclass(frozen=True)
class Fold:
    """A reduction: step takes values into accumulators, merge joins accumulators, finish ends.

    `source` are the values, `element` the accumulators.
    """

    element: ir.Type
    start: int
    result: ir.IntType
    step: Callable[[ir.IRBuilder, Value, Sequence[Value], Position], Value]
    merge: Callable[[ir.IRBuilder, Value, Value], Value]
    finish: Callable[[ir.IRBuilder, Value], Value]
    source: ir.IntType = I8


def extreme(kind: Reduction, element: ir.IntType = I8) -> Fold:
    """Maximum or minimum."""
    merge = larger if kind is Reduction.MAX else smaller

    def step(b: ir.IRBuilder, acc: Value, xs: Sequence[Value], where: Position) -> Value:
        return merge(b, acc, reduce(lambda x, y: merge(b, x, y), xs))

    limit = 1 << (element.width - 1)
    start = -limit if kind is Reduction.MAX else limit - 1
    return Fold(element, start, element, step, merge, lambda b, acc: acc, element)


def widened_sum(b: ir.IRBuilder, acc: Value, xs: Sequence[Value], where: Position) -> Value:
    """acc (i32) + the sum of at most GROUP vectors of i8, which fits i16."""
    lanes = acc.type.count
    narrow = [b.sext(x, vector(I16, lanes)) for x in xs]
    return b.add(acc, b.sext(reduce(b.add, narrow), vector(I32, lanes)))


def requantized_sum(
    count: int, x_zero_point: int, multiplier: int, shift: int, q: Requantize
) -> Fold:
    """requantize(sum - count * zero_point); the caller certifies that 255 * count fits i32."""

    def finish(b: ir.IRBuilder, acc: Value) -> Value:
        centred = b.sub(acc, splat(I32, acc.type.count, count * x_zero_point))
        return emit_requantize_by(b, centred, multiplier, shift, q)

    add = lambda b, x, y: b.add(x, y)  # noqa: E731
    return Fold(I32, 0, I8, widened_sum, add, finish)


def index_of_largest(extent: int, *, last: bool, source: ir.IntType = I8) -> Fold:
    """ArgMax as a maximum of keys: the value in the high bits, the index (or its complement) below.

    Keys differ, so one maximum finds the value and, among equals, the last index or the first.
    """
    mask = (1 << KEY_BITS) - 1
    element = I32 if source == I8 else I64

    def step(b: ir.IRBuilder, acc: Value, xs: Sequence[Value], where: Position) -> Value:
        for k, x in enumerate(xs):
            acc = larger(b, acc, key(b, x, where, k))
        return acc

    def key(b: ir.IRBuilder, x: Value, where: Position, k: int) -> Value:
        lanes = x.type.count
        keys = vector(element, lanes)
        base = plus(b, where.index, k * where.step)
        static = isinstance(base, int)
        first = splat(element, lanes, base) if static else _splat_index(b, base, lanes, element)
        index = b.add(first, constant(element, [lane * where.lane for lane in range(lanes)]))
        low = index if last else b.sub(splat(element, lanes, extent - 1), index)
        return b.or_(b.shl(b.sext(x, keys), splat(element, lanes, KEY_BITS)), low)

    def finish(b: ir.IRBuilder, acc: Value) -> Value:
        lanes = acc.type.count
        low = b.trunc(b.and_(acc, splat(element, lanes, mask)), vector(I32, lanes))
        return low if last else b.sub(splat(I32, lanes, extent - 1), low)

    least = -(1 << (element.width - 1))
    return Fold(element, least, I32, step, larger, finish, source)


def _splat_index(b: ir.IRBuilder, index: Value, lanes: int, element: ir.IntType = I32) -> Value:
    return broadcast(b, in_bits(b, index, element), lanes)


def max_pool(element: ir.IntType, *, stored: bool) -> PoolFold:
    """The largest tap inside; padding has the least value, which an empty window gives.

    `stored`: on i8 as value + BIAS.
    """
    if stored:
        return PoolFold(I8, 0, larger_unsigned, larger_unsigned, lambda b, acc, count: acc)
    least = -(1 << (element.width - 1))
    return PoolFold(element, least, larger, larger, lambda b, acc, count: acc)


def average_pool(
    taps: int,
    x_zero_point: int,
    shift: int,
    q: Requantize,
    known: Sequence[int],
    multipliers: Value,
    *,
    stored: bool,
) -> PoolFold:
    """requantize(sum of (x - zero_point) over the taps inside); multipliers i32 by their number,
    which quotients take from `known` where the number is.

    256 taps fit 16 bits: 256 * 128 = 2^15 in magnitude, which only the negative side reaches, and
    256 * 255 < 2^16 of stored bytes.
    """
    element = I16 if taps <= 256 else I32
    origin = x_zero_point + (BIAS if stored else 0)

    def widened(b: ir.IRBuilder, x: Value, type: ir.Type) -> Value:
        return b.zext(x, type) if stored else b.sext(x, type)

    def step(b: ir.IRBuilder, acc: Value, x: Value) -> Value:
        return b.add(acc, widened(b, x, acc.type))

    def finish(b: ir.IRBuilder, acc: Value, count: Value | int) -> Value:
        lanes = acc.type.count
        wide = acc if element is I32 else widened(b, acc, vector(I32, lanes))
        if origin:
            offset = multiple(b, count, origin)
            static = isinstance(offset, int)
            zero = splat(I32, lanes, offset) if static else _splat_index(b, offset, lanes)
            wide = b.sub(wide, zero)
        if q.form is Form.QUOTIENT and isinstance(count, int):
            multiplier: Value | int = known[count]
        else:
            multiplier = load(b, at(b, multipliers, multiple(b, count, 4)), I32, 4)
        y = emit_requantize_by(b, wide, multiplier, shift, q)
        return flipped(b, y) if stored else y

    return PoolFold(element, 0, step, lambda b, x, y: b.add(x, y), finish)
