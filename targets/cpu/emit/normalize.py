"""Normalisation: the sums of a group, its mean and inverse root, then each of its values.

Meaning: qcomp.ir.evaluate.normalization (QNormalize). Groups lie along an axis, or side by side:
then each lane of a vector has a group of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcomp.ir.evaluate.normalization import MOST_SHIFTED
from qcomp.quant.inverse_root import FIRST
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Value,
    at,
    broadcast,
    clamp,
    i64,
    larger,
    load,
    loop,
    multiple,
    smaller,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.folds import Fold, Position
from qcomp.targets.cpu.emit.lanes import chunk, over_chunks
from qcomp.targets.cpu.emit.reduce import fold_across, fold_line
from qcomp.targets.cpu.emit.span import Span
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
class _Group:
    """Of each lane's group, i32: deviations are (x << left) - center, modulo 2^32, in units that
    `right` shifts to those of t, whose half is in the center; and the inverse root.

    left < 32, as QNormalize has a precision of 23 at most beside 8 fraction bits.
    """

    center: Value
    left: Value
    right: Value
    root: Value

    def spread(self, b: ir.IRBuilder, lanes: int) -> _Group:
        """Of one lane, in every lane."""
        if lanes == self.center.type.count:
            return self
        parts = (self.center, self.left, self.right, self.root)
        zeros = [0] * lanes
        return _Group(*(b.shuffle_vector(v, v, zeros) for v in parts))


def emit_normalize(
    b: ir.IRBuilder,
    spec: NormalizeSpec,
    src: Value,
    dst: Value,
    roots: Value,
    gamma: Value,
    beta: Value,
    span: Span,
) -> None:
    body, outer = _across if spec.is_across else _along, spec.outer

    def visit(axes: Sequence[Axis], pointers: Sequence[Value]) -> None:
        if not axes:
            body(b, spec, roots, pointers)
            return
        step = lambda i: visit(axes[1:], _advanced(b, axes[0], i, pointers))  # noqa: E731
        if axes is outer and axes[0].count > 1:
            span.loop(b, step)
        else:
            loop(b, axes[0].count, step, "kept")

    visit(outer, (src, dst, gamma, beta))
    b.ret_void()


def _advanced(
    b: ir.IRBuilder, axis: Axis, i: Value | int, pointers: Sequence[Value]
) -> list[Value]:
    """The pointers to source, result, gamma and beta, i steps further."""
    steps = (axis.src, axis.dst, axis.other, 2 * axis.other)
    return [at(b, p, multiple(b, i, step)) for p, step in zip(pointers, steps, strict=True)]


def _along(b: ir.IRBuilder, spec: NormalizeSpec, roots: Value, pointers: Sequence[Value]) -> None:
    """One group."""
    total, squares = (
        fold_line(b, fold, spec.reduced, pointers[0], spec.lanes)
        for fold in (_total(spec.source), _squares(spec.source))
    )
    group = _group(b, spec, total, squares, roots)
    last = spec.reduced[-1] if spec.reduced else Axis(1, 0, 0)
    width = chunk(last.count, 2 * spec.lanes, spec.lanes) if spec.is_line else 1
    each = group.spread(b, width)

    def line(pointers: Sequence[Value]) -> None:
        over_chunks(
            b,
            last.count,
            width,
            lambda i: _element(b, spec, each, last.other, _advanced(b, last, i, pointers)),
        )

    _over(b, spec.reduced[:-1], pointers, line)


def _across(b: ir.IRBuilder, spec: NormalizeSpec, roots: Value, pointers: Sequence[Value]) -> None:
    """A group in each lane."""
    last = spec.kept[-1]
    width = chunk(last.count, spec.lanes, spec.lanes)

    def groups(i: Value | int) -> None:
        first = _advanced(b, last, i, pointers)
        total, squares = (
            fold_across(b, fold, spec.reduced, first[0], width)
            for fold in (_total(spec.source), _squares(spec.source))
        )
        group = _group(b, spec, total, squares, roots)
        _over(b, spec.reduced, first, lambda p: _element(b, spec, group, last.other, p))

    over_chunks(b, last.count, width, groups)


def _over(
    b: ir.IRBuilder,
    axes: Sequence[Axis],
    pointers: Sequence[Value],
    body: Callable[[Sequence[Value]], None],
) -> None:
    """body(pointers) at each position of the axes."""
    if not axes:
        body(pointers)
        return
    loop(
        b,
        axes[0].count,
        lambda i: _over(b, axes[1:], _advanced(b, axes[0], i, pointers), body),
        "value",
    )


# ------------------------------------------------------------------------- sums


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


# ------------------------------------------------------------- a group's numbers


def _group(
    b: ir.IRBuilder, spec: NormalizeSpec, total: Value, squares: Value, roots: Value
) -> _Group:
    """From the sums of each lane's group, i64."""
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
    return _Group(offset, b.add(left, splat(I32, lanes, f)), right, root)


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


# ----------------------------------------------------------------------- elements


def _element(
    b: ir.IRBuilder, spec: NormalizeSpec, group: _Group, step: int, pointers: Sequence[Value]
) -> None:
    """A vector of values; the parameters are as many, or one for all where their step is 0."""
    x, y, gamma, beta = pointers
    lanes = group.center.type.count

    def number(n: int) -> Value:
        return splat(I32, lanes, n)

    def parameter(p: Value, type: ir.IntType) -> Value:
        if step == 0 and lanes > 1:
            return broadcast(b, load(b, p, type, type.width // 8), lanes)
        return load(b, p, vector(type, lanes), type.width // 8)

    wide = b.sext(load(b, x, vector(spec.source, lanes)), vector(I32, lanes))
    d = b.sub(b.shl(wide, group.left), group.center)
    t = clamp(b, b.ashr(d, group.right), -MOST_SHIFTED, MOST_SHIFTED)
    w = b.ashr(b.add(b.mul(t, group.root), number(1 << 14)), number(15))
    scaled = b.mul(w, b.sext(parameter(gamma, I16), vector(I32, lanes)))
    q = b.ashr(b.add(scaled, parameter(beta, I32)), number(spec.shift))
    store(b, b.trunc(clamp(b, q, spec.qmin, spec.qmax), vector(spec.result, lanes)), y)
