"""Reductions over any axes: vectors over the last kept axis, or over the last reduced one.

Meanings: qcomp.ir.evaluate.reduction (QReduceSum, QReduceExtreme),
qcomp.ir.evaluate.reduction (ArgMax).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    Carried,
    Value,
    at,
    load,
    loop,
    multiple,
    plus,
    repeat,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.folds import GROUP, Fold, Position
from qcomp.targets.cpu.emit.lanes import chunk, folded, over_chunks, powers
from qcomp.targets.cpu.kernels.axis import Axis


@dataclass(frozen=True)
class ReduceSpec:
    """Kept axes step through source and result, reduced ones through the source; simplified."""

    kept: tuple[Axis, ...]
    reduced: tuple[Axis, ...]


def simplified_axes(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Axes of one element dropped, neighbours that step evenly merged."""
    result: list[Axis] = []
    for axis in axes:
        if axis.count == 1:
            continue
        if result:
            outer = result[-1]
            if outer.continues(axis):
                result[-1] = axis.times(outer.count)
                continue
        result.append(axis)
    return tuple(result)


def over_axes(
    b: ir.IRBuilder,
    axes: Sequence[Axis],
    src: Value,
    dst: Value,
    body: Callable[[Value, Value], None],
) -> None:
    """body(source, result) at each position of the axes."""
    if not axes:
        body(src, dst)
        return
    first, rest = axes[0], axes[1:]

    def step(i: Value | int) -> None:
        x, y = at(b, src, multiple(b, i, first.src)), at(b, dst, multiple(b, i, first.dst))
        over_axes(b, rest, x, y, body)

    loop(b, first.count, step, "kept")


def emit_reduce(
    b: ir.IRBuilder, spec: ReduceSpec, fold: Fold, lanes: int, src: Value, dst: Value
) -> None:
    """The whole op; `lanes` i32 make one vector of the machine."""
    source, size = fold.source.width // 8, fold.result.width // 8
    last = spec.kept[-1] if spec.kept else None

    def one(x: Value, y: Value) -> None:
        store(b, fold.finish(b, fold_line(b, fold, spec.reduced, x, lanes)), y)

    def across(x: Value, y: Value) -> None:
        assert last is not None
        width = chunk(last.count, 8 * lanes, lanes)

        def part(c: Value | int) -> None:
            first = at(b, x, multiple(b, c, source))
            acc = fold_across(b, fold, spec.reduced, first, width)
            store(b, fold.finish(b, acc), at(b, y, multiple(b, c, size)))

        over_chunks(b, last.count, width, part)

    if last is not None and (last.src, last.dst) == (source, size):
        over_axes(b, spec.kept[:-1], src, dst, across)
    else:
        over_axes(b, spec.kept, src, dst, one)
    b.ret_void()


def fold_across(b: ir.IRBuilder, fold: Fold, axes: Sequence[Axis], x: Value, width: int) -> Value:
    """`width` neighbours, each folded over the axes on its own."""

    def run(axis: Axis, x: Value, accs: Carried) -> Carried:
        return [_run(b, fold, x, axis.count, axis.src, accs[0], Position(0, 1, 0))]

    (acc,) = _over(b, axes, x, [splat(fold.element, width, fold.start)], run)
    return acc


def fold_line(b: ir.IRBuilder, fold: Fold, axes: Sequence[Axis], x: Value, lanes: int) -> Value:
    """<1 x t>: all folded to one value, in vectors along the last axis where it is contiguous."""
    count, stride = (axes[-1].count, axes[-1].src) if axes else (1, 0)
    source = fold.source.width // 8
    if stride != source:
        return fold_across(b, fold, axes, x, 1)
    width = min(8 * lanes, 1 << (count.bit_length() - 1))
    whole, rest = divmod(count, width)

    def run(axis: Axis, x: Value, accs: Carried) -> Carried:
        wide, narrow = accs
        wide = _run(b, fold, x, whole, width * source, wide, Position(0, width, 1))
        for start, size in powers(rest):
            offset = whole * width + start
            begin = splat(fold.element, size, fold.start)
            values = load(b, at(b, x, offset * source), vector(fold.source, size))
            piece = fold.step(b, begin, [values], Position(offset, 0, 1))
            narrow = fold.merge(b, narrow, folded(b, piece, fold.merge))
        return [wide, narrow]

    begin = [splat(fold.element, n, fold.start) for n in (width, 1)]
    wide, narrow = _over(b, axes, x, begin, run)
    return fold.merge(b, narrow, folded(b, wide, fold.merge))


def _over(
    b: ir.IRBuilder,
    axes: Sequence[Axis],
    x: Value,
    accs: Carried,
    run: Callable[[Axis, Value, Carried], Carried],
) -> Carried:
    """run(last axis, source, accumulators) at each position of the other axes."""
    if len(axes) <= 1:
        return run(axes[0] if axes else Axis(1, 0, 0), x, accs)

    def step(i: Value | int, accs: Carried) -> Carried:
        return _over(b, axes[1:], at(b, x, multiple(b, i, axes[0].src)), accs, run)

    return repeat(b, axes[0].count, accs, step, "reduced")


def _run(
    b: ir.IRBuilder, fold: Fold, x: Value, count: int, stride: int, acc: Value, where: Position
) -> Value:
    """Vectors `stride` bytes apart, GROUP at a time."""
    type = vector(fold.source, acc.type.count)

    def group(first: Value | int, size: int, acc: Value) -> Value:
        p = at(b, x, multiple(b, first, stride))
        values = [load(b, at(b, p, k * stride), type) for k in range(size)]
        index = plus(b, multiple(b, first, where.step), where.index)
        return fold.step(b, acc, values, Position(index, where.step, where.lane))

    whole, rest = divmod(count, GROUP)
    (acc,) = repeat(
        b, whole, [acc], lambda g, accs: [group(multiple(b, g, GROUP), GROUP, accs[0])], "group"
    )
    return group(whole * GROUP, rest, acc) if rest else acc
