"""Softmax and its logarithm with operands or results of 16 bits, element by element, in i64.

Meanings: qcomp.ir.evaluate.reduction (QSoftmax, QLogSoftmax).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qcomp.ir.ops import Reduction
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    I64,
    Value,
    at,
    i64,
    load,
    loop,
    multiple,
    repeat,
    store,
)
from qcomp.targets.cpu.emit.folds import extreme
from qcomp.targets.cpu.emit.lanes import scalar
from qcomp.targets.cpu.emit.reduce import fold_line, over_axes
from qcomp.targets.cpu.emit.softmax import LogSpec, SoftmaxSpec
from qcomp.targets.cpu.emit.words import word_type

EXPONENTS = 48  # entries of the table of logarithms before the mantissas
MANTISSA_BITS = 46
FINE_STEPS = 256  # of the first half of the table of exponentials; the other is in as large steps
Q = 30  # of the exponentials of i16
_KEPT, _RECIPROCAL_BITS = 31, 48  # see _divider


@dataclass(frozen=True)
class Types:
    """Of operand and result."""

    source: ir.IntType
    result: ir.IntType


def emit_softmax(
    b: ir.IRBuilder, spec: SoftmaxSpec, types: Types, src: Value, dst: Value, exp_table: Value
) -> None:
    """At most 2^15 * 2^30 + 2^45 / 2 is divided by at most 2^45."""
    levels, least = (256 << spec.finer, -128) if types.result.width == 8 else (32768, 0)

    def row(x: Value, y: Value) -> None:
        top = _largest(b, spec, types, x)
        exponential = _exponentials(b, spec, types, x, top, exp_table)
        total = _total(b, spec, exponential)
        half = b.lshr(total, i64(1))
        divided = _divider(b, types, total)

        def element(i: Value | int) -> None:
            scaled = b.mul(exponential(i), i64(levels))
            quotient = b.add(divided(b.add(scaled, half)), i64(least))
            _store(b, spec, types, quotient, y, i)

        loop(b, spec.axis.count, element, "element")

    over_axes(b, spec.kept, src, dst, row)
    b.ret_void()


def emit_log_softmax(
    b: ir.IRBuilder,
    spec: SoftmaxSpec,
    log: LogSpec,
    types: Types,
    src: Value,
    dst: Value,
    exp_table: Value,
    log_table: Value,
) -> None:
    def row(x: Value, y: Value) -> None:
        top = _largest(b, spec, types, x)
        total = _total(b, spec, _exponentials(b, spec, types, x, top, exp_table))
        half = (1 << log.shift) >> 1
        offset = b.sub(i64(half), logarithm(b, total, log_table))

        def element(i: Value | int) -> None:
            below = b.sub(_element(b, spec, types, x, i), top)
            scaled = b.ashr(b.add(b.mul(below, i64(log.multiplier)), offset), i64(log.shift))
            _store(b, spec, types, b.add(scaled, i64(log.zero_point)), y, i)

        loop(b, spec.axis.count, element, "element")

    over_axes(b, spec.kept, src, dst, row)
    b.ret_void()


def _element(b: ir.IRBuilder, spec: SoftmaxSpec, types: Types, x: Value, i: Value | int) -> Value:
    return b.sext(load(b, at(b, x, multiple(b, i, spec.axis.src)), types.source), I64)


def _largest(b: ir.IRBuilder, spec: SoftmaxSpec, types: Types, x: Value) -> Value:
    found = fold_line(b, extreme(Reduction.MAX, types.source), (spec.axis,), x, spec.lanes)
    return b.sext(scalar(b, found), I64)


def _exponentials(
    b: ir.IRBuilder, spec: SoftmaxSpec, types: Types, x: Value, top: Value, table: Value
) -> Callable[[Value | int], Value]:
    """i -> the exponential of how far element i is below the largest, 0 to 2^16 - 1."""

    def entry(index: Value) -> Value:
        return b.zext(load(b, at(b, table, b.shl(index, i64(2))), I32, 4), I64)

    def exponential(i: Value | int) -> Value:
        below = b.sub(top, _element(b, spec, types, x, i))
        if types.source.width == 8:
            return entry(below)
        fine = entry(b.and_(below, i64(FINE_STEPS - 1)))
        coarse = entry(b.add(b.lshr(below, i64(8)), i64(FINE_STEPS)))
        return b.lshr(b.add(b.mul(fine, coarse), i64(1 << (Q - 1))), i64(Q))

    return exponential


def _total(
    b: ir.IRBuilder, spec: SoftmaxSpec, exponential: Callable[[Value | int], Value]
) -> Value:
    (total,) = repeat(
        b, spec.axis.count, [i64(0)], lambda i, sums: [b.add(sums[0], exponential(i))], "sum"
    )
    return total


def _divider(b: ir.IRBuilder, types: Types, total: Value) -> Callable[[Value], Value]:
    """n -> n // S for n <= 2^15 * S + S / 2, by a reciprocal and one correction.

    S is at least 2^16 from i8, and 2^30 from i16, which loses its low bits here: T = S >> s has 31.
    With M = 2^48 // (T + 1) the number q = (n >> s) * M >> 48 is at most n // S, and less than 2
    below n / S: T + 1 takes away 2^15.01 / T <= 0.504 at most, M n / 2^48 <= 1/4 more and the floor
    the rest. So q is n // S or 1 less, which the remainder tells. (n >> s) * M < 2^15.01 * 2^48
    fits u64.
    """
    if word_type(b).width < 64:
        return lambda n: b.udiv(n, total)
    lost: Value = i64(0)
    if types.source.width == 16:
        zeros = b.ctlz(total, ir.Constant(ir.IntType(1), 1))
        lost = b.sub(i64(64 - _KEPT), zeros)  # S has 31 bits or more
    above = b.add(b.lshr(total, lost), i64(1))
    reciprocal = b.udiv(i64(1 << _RECIPROCAL_BITS), above)

    def divided(n: Value) -> Value:
        q = b.lshr(b.mul(b.lshr(n, lost), reciprocal), i64(_RECIPROCAL_BITS))
        rest = b.sub(n, b.mul(q, total))
        return b.add(q, b.zext(b.icmp_unsigned(">=", rest, total), I64))

    return divided


def logarithm(b: ir.IRBuilder, total: Value, table: Value) -> Value:
    """log(total) in the units and over the Q of the table; 1 <= total < 2^46."""
    zeros = b.ctlz(total, ir.Constant(ir.IntType(1), 1))
    n = b.sub(i64(63), zeros)
    aligned = b.shl(total, b.sub(i64(MANTISSA_BITS), n))
    mantissa = b.and_(aligned, i64((1 << MANTISSA_BITS) - 1))
    fraction = b.lshr(mantissa, i64(MANTISSA_BITS - 16))

    def entry(index: Value) -> Value:
        return load(b, at(b, table, b.shl(index, i64(3))), I64, 8)

    first = b.add(b.lshr(fraction, i64(8)), i64(EXPONENTS))
    low, high = entry(first), entry(b.add(first, i64(1)))
    between = b.ashr(b.mul(b.sub(high, low), b.and_(fraction, i64(255))), i64(8))
    return b.add(b.add(entry(n), low), between)


def _store(
    b: ir.IRBuilder, spec: SoftmaxSpec, types: Types, q: Value, y: Value, i: Value | int
) -> None:
    limit = 1 << (types.result.width - 1)
    q = b.select(b.icmp_signed("<", q, i64(-limit)), i64(-limit), q)
    q = b.select(b.icmp_signed(">", q, i64(limit - 1)), i64(limit - 1), q)
    store(b, b.trunc(q, types.result), at(b, y, multiple(b, i, spec.axis.dst)))
