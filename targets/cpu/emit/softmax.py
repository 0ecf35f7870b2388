"""Softmax and its logarithm: integer exponentials from a table, one division or logarithm a row.

Meanings: qcomp.ir.evaluate.reduction (QSoftmax, QLogSoftmax).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops import Reduction
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
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
from qcomp.targets.cpu.emit.words import word, word_type
from qcomp.targets.cpu.kernels.axis import Axis

LOG_MANTISSA = 32  # where the mantissas start in the table of logarithms
RECIPROCAL_BITS = 55  # 256.5 * 2^55 + 2^31 < 2^64: see _divider


@dataclass(frozen=True)
class SoftmaxSpec:
    """`axis` is normalised at each position of `kept`; `finer` is that of QSoftmax."""

    kept: tuple[Axis, ...]
    axis: Axis
    lanes: int
    finer: int


@dataclass(frozen=True)
class LogSpec:
    """The constants of QLogSoftmax."""

    multiplier: int
    shift: int
    zero_point: int


class SoftmaxRows(Protocol):
    """How a machine computes some softmaxes better than `emit_softmax` does."""

    @property
    def kind(self) -> str:
        """Of the kernels, in their names."""

    def takes(self, spec: SoftmaxSpec) -> bool: ...

    def data(self, exp_table: NDArray[np.int32]) -> NDArray[np.uint8]:
        """What `emit` reads instead of the table of exponentials."""

    def emit(
        self, b: ir.IRBuilder, spec: SoftmaxSpec, src: Value, dst: Value, exponentials: Value
    ) -> None: ...


def emit_softmax(
    b: ir.IRBuilder, spec: SoftmaxSpec, src: Value, dst: Value, exp_table: Value
) -> None:
    """2^(8 + finer) * e <= 2^29 and S < 2^31, so that the sum with S // 2 fits 32 bits."""

    def row(x: Value, y: Value) -> None:
        top = largest(b, spec, x)
        total = _total(b, spec, x, top, exp_table)
        half = b.lshr(total, _i32(1))
        divided = _divider(b, spec, total)

        def element(i: Value | int) -> None:
            scaled = b.shl(exponential(b, spec, x, i, top, exp_table), _i32(8 + spec.finer))
            quotient = b.sub(divided(b.add(scaled, half)), _i32(128))
            q = b.select(b.icmp_signed(">", quotient, _i32(127)), _i32(127), quotient)
            store(b, b.trunc(q, I8), at(b, y, multiple(b, i, spec.axis.dst)))

        loop(b, spec.axis.count, element, "element")

    over_axes(b, spec.kept, src, dst, row)
    b.ret_void()


def emit_log_softmax(
    b: ir.IRBuilder,
    spec: SoftmaxSpec,
    log: LogSpec,
    src: Value,
    dst: Value,
    exp_table: Value,
    log_table: Value,
) -> None:
    """Sums in i64, so they can't overflow whatever the constants are."""

    def row(x: Value, y: Value) -> None:
        top = largest(b, spec, x)
        total = _total(b, spec, x, top, exp_table)
        half = (1 << log.shift) >> 1
        offset = b.sub(i64(half), _logarithm(b, total, log_table))

        def element(i: Value | int) -> None:
            below = b.sext(b.sub(_element(b, spec, x, i), top), I64)
            scaled = b.ashr(b.add(b.mul(below, i64(log.multiplier)), offset), i64(log.shift))
            q = b.add(scaled, i64(log.zero_point))
            q = b.select(b.icmp_signed("<", q, i64(-128)), i64(-128), q)
            q = b.select(b.icmp_signed(">", q, i64(127)), i64(127), q)
            store(b, b.trunc(q, I8), at(b, y, multiple(b, i, spec.axis.dst)))

        loop(b, spec.axis.count, element, "element")

    over_axes(b, spec.kept, src, dst, row)
    b.ret_void()


def _i32(n: int) -> ir.Constant:
    return ir.Constant(I32, n)


def _element(b: ir.IRBuilder, spec: SoftmaxSpec, x: Value, i: Value | int) -> Value:
    return b.sext(load(b, at(b, x, multiple(b, i, spec.axis.src)), I8), I32)


def largest(b: ir.IRBuilder, spec: SoftmaxSpec, x: Value) -> Value:
    found = fold_line(b, extreme(Reduction.MAX), (spec.axis,), x, spec.lanes)
    return b.sext(scalar(b, found), I32)


def exponential(
    b: ir.IRBuilder, spec: SoftmaxSpec, x: Value, i: Value | int, top: Value, table: Value
) -> Value:
    """The table's entry for how far below the largest the element is, 0 to 255."""
    below = b.zext(b.sub(top, _element(b, spec, x, i)), word_type(b))
    return load(b, at(b, table, b.shl(below, word(b, 2))), I32, 4)


def _total(b: ir.IRBuilder, spec: SoftmaxSpec, x: Value, top: Value, table: Value) -> Value:
    """At most 32767 * 2^16 < 2^31."""
    (total,) = repeat(
        b,
        spec.axis.count,
        [_i32(0)],
        lambda i, sums: [b.add(sums[0], exponential(b, spec, x, i, top, table))],
        "sum",
    )
    return total


def has_reciprocal(spec: SoftmaxSpec) -> bool:
    """Whether n * S < 2^RECIPROCAL_BITS for the largest n and S, with steps of 1/256."""
    largest = spec.axis.count << 16
    product: int = (2**24 + largest // 2) * largest
    return spec.finer == 0 and product < 1 << RECIPROCAL_BITS


def _divider(b: ir.IRBuilder, spec: SoftmaxSpec, total: Value) -> Callable[[Value], Value]:
    """n -> n // S for n <= 2^24 + S / 2, by a reciprocal where that is exact for all elements.

    M = 2^k // S + 1 exceeds 2^k / S by at most 1, so n * M / 2^k exceeds n / S by at most n / 2^k.
    The fraction of n / S is at most 1 - 1 / S, hence the floor is right where n * S < 2^k. As
    n / S <= 256.5, n * M <= 256.5 * 2^k + n fits u64. Where words have 32 bits, a division of 64
    is a function of the C compiler's library, which the code does without.
    """
    if word_type(b).width < 64 or not has_reciprocal(spec):
        return lambda n: b.udiv(n, total)
    one = i64(1 << RECIPROCAL_BITS)
    reciprocal = b.add(b.udiv(one, b.zext(total, I64)), i64(1))

    def divided(n: Value) -> Value:
        product = b.mul(b.zext(n, I64), reciprocal)
        return b.trunc(b.lshr(product, i64(RECIPROCAL_BITS)), I32)

    return divided


def _logarithm(b: ir.IRBuilder, total: Value, table: Value) -> Value:
    """log(total / 2^16) in the units of the table, as i64; total > 0."""
    zeros = b.ctlz(total, ir.Constant(ir.IntType(1), 1))
    mantissa = b.and_(b.shl(total, zeros), _i32(2**31 - 1))
    fraction = b.zext(b.lshr(mantissa, _i32(15)), I64)
    n = b.zext(b.sub(_i32(31), zeros), I64)
    slot = at(b, table, b.shl(b.lshr(fraction, i64(8)), i64(2)))

    def entry(p: Value) -> Value:
        return b.sext(load(b, p, I32, 4), I64)

    low, high = (entry(at(b, slot, 4 * (LOG_MANTISSA + k))) for k in (0, 1))
    between = b.ashr(b.mul(b.sub(high, low), b.and_(fraction, i64(255))), i64(8))
    return b.add(b.add(entry(at(b, table, b.shl(n, i64(2)))), low), between)
