"""What the values of a group share: sums, the mean, the inverse root; a group in each lane.

Meaning: qcomp.ir.evaluate.normalization (QNormalize).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.quant.inverse_root import FIRST
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    I64,
    Value,
    at,
    i64,
    larger,
    load,
    smaller,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.folds import Fold, Position
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.kernels.axis import Axis


@dataclass(frozen=True)
class NormalizeSpec:
    """`other` of the axes are the steps of gamma, in bytes; those of beta are twice as long.

    The constants are the fields of QNormalize; `count` is the number of values of a group.
    """

    kept: tuple[Axis, ...]
    reduced: tuple[Axis, ...]
    count: int
    source: ir.IntType
    result: ir.IntType
    lanes: int
    centered: bool
    x_zero_point: int
    fraction_bits: int
    mean_multiplier: int
    mean_shift: int
    added: int
    least: int
    precision: int
    shift: int
    qmin: int
    qmax: int

    @property
    def is_line(self) -> bool:
        """Whether the values of a group are neighbours."""
        return bool(self.reduced) and self._is_dense(self.reduced[-1])

    @property
    def is_across(self) -> bool:
        """Whether groups are neighbours."""
        return not self.is_line and bool(self.kept) and self._is_dense(self.kept[-1])

    def _is_dense(self, axis: Axis) -> bool:
        sizes = self.source.width // 8, self.result.width // 8
        return (axis.src, axis.dst) == sizes and axis.other in (0, 2)

    @property
    def outer(self) -> tuple[Axis, ...]:
        """The axes whose positions the kernel visits one by one."""
        return self.kept[:-1] if self.is_across else self.kept

    @property
    def units(self) -> int:
        """Of work: positions of the outermost axis that is visited."""
        return self.outer[0].count if self.outer else 1


@dataclass(frozen=True)
class Group:
    """Of each lane's group, i32: deviations are (x << left) - center, modulo 2^32, in units that
    `right` shifts to those of t, whose half is in the center; and the inverse root.

    left < 32, as QNormalize has a precision of 23 at most beside 8 fraction bits.
    """

    center: Value
    left: Value
    right: Value
    root: Value

    def spread(self, b: ir.IRBuilder, lanes: int) -> Group:
        """Of one lane, in every lane."""
        if lanes == self.center.type.count:
            return self
        parts = (self.center, self.left, self.right, self.root)
        zeros = [0] * lanes
        return Group(*(b.shuffle_vector(v, v, zeros) for v in parts))


def _add(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.add(x, y)


def _as_it_is(b: ir.IRBuilder, acc: Value) -> Value:
    return acc


def _total(source: ir.IntType) -> Fold:
    """The sum in 64 bits; a step's few values are added in 32."""

    def step(b: ir.IRBuilder, acc: Value, xs: Sequence[Value], where: Position) -> Value:
        few = [b.sext(x, vector(I32, acc.type.count)) for x in xs]
        return b.add(acc, b.sext(_sum(b, few), acc.type))

    return Fold(I64, 0, I64, step, _add, _as_it_is, source)


def _squares(source: ir.IntType) -> Fold:
    """The sum of squares in 64 bits: two of 16 bits fit 32 without a sign, as do all of a step of
    8.
    """
    together = 8 if source is I8 else 2

    def step(b: ir.IRBuilder, acc: Value, xs: Sequence[Value], where: Position) -> Value:
        wide = [b.sext(x, vector(I32, acc.type.count)) for x in xs]
        squares = [b.mul(x, x) for x in wide]
        for i in range(0, len(squares), together):
            few = _sum(b, squares[i : i + together])
            acc = b.add(acc, b.zext(few, acc.type))
        return acc

    return Fold(I64, 0, I64, step, _add, _as_it_is, source)


def _sum(b: ir.IRBuilder, values: Sequence[Value]) -> Value:
    total, *rest = values
    for value in rest:
        total = b.add(total, value)
    return total


def sums_of(source: ir.IntType) -> tuple[Fold, Fold]:
    """Of the values, and of their squares."""
    return _total(source), _squares(source)


def group_of(b: ir.IRBuilder, spec: NormalizeSpec, sums: Sequence[Value], roots: Value) -> Group:
    """From `sums_of` each lane's group, i64."""
    total, squares = sums
    lanes, f = total.type.count, spec.fraction_bits
    narrow = vector(I32, lanes)

    def number(n: int) -> Value:
        return splat(I64, lanes, n)

    if spec.centered:
        product = b.add(
            b.mul(total, number(spec.mean_multiplier)), number(1 << spec.mean_shift >> 1)
        )
        center = b.ashr(product, number(spec.mean_shift))
    else:
        center = number(spec.x_zero_point << f)
    # sum(((x << f) - c)^2), modulo 2^64 until all of it is added up
    twice = b.sub(b.mul(center, number(spec.count)), b.shl(total, number(f + 1)))
    power = b.add(b.shl(squares, number(2 * f)), b.mul(center, twice))
    power = larger(b, b.add(power, number(spec.added)), number(spec.least))
    root, zeros = _inverse_roots(b, power, roots)
    k = b.sub(splat(I32, lanes, 31 - spec.precision), zeros)
    nothing, one = splat(I32, lanes, 0), splat(I32, lanes, 1)
    right = larger(b, k, nothing)
    left = larger(b, b.sub(nothing, k), nothing)
    half = b.lshr(b.shl(one, right), one)
    offset = b.sub(b.shl(b.trunc(center, narrow), left), half)
    return Group(offset, b.add(left, splat(I32, lanes, f)), right, root)


def _inverse_roots(b: ir.IRBuilder, power: Value, roots: Value) -> tuple[Value, Value]:
    """R and n of each lane, i32; see qcomp.quant.inverse_root."""
    lanes = power.type.count
    found = [ir.undefined(vector(I32, lanes)) for _ in range(2)]
    for lane in range(lanes):
        place = ir.Constant(I32, lane)
        numbers = _inverse_root(b, b.extract_element(power, place), roots)
        found = [b.insert_element(v, n, place) for v, n in zip(found, numbers, strict=True)]
    return found[0], found[1]


def _inverse_root(b: ir.IRBuilder, power: Value, roots: Value) -> tuple[Value, Value]:
    zeros = b.lshr(b.ctlz(power, ir.Constant(ir.IntType(1), 1)), i64(1))
    x = b.lshr(b.shl(power, b.shl(zeros, i64(1))), i64(32))
    index = b.sub(b.lshr(x, i64(24)), i64(FIRST))
    if word(b, 0).type.width < 64:
        index = b.trunc(index, word(b, 0).type)
    slot = at(b, roots, b.shl(index, word(b, 2)))
    y = b.zext(load(b, slot, I32, 4), I64)
    near = b.lshr(b.mul(b.mul(y, y), x), i64(32))
    step = b.add(b.mul(y, b.sub(i64(3 << 30), near)), i64(1 << 31))
    root = b.trunc(b.lshr(step, i64(32)), I32)
    most = ir.Constant(I32, 2**15 - 1)
    return smaller(b, root, most), b.trunc(zeros, I32)
