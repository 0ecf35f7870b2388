"""Normalisation: the sums of a group, its mean and inverse root, then each of its values.

Meaning: qcomp.ir.evaluate.normalization (QNormalize). Groups lie along an axis, or side by side:
then each lane of a vector has a group of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.ir.evaluate.normalization import MOST_SHIFTED
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    Value,
    at,
    broadcast,
    clamp,
    load,
    loop,
    multiple,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.groups import Group, NormalizeSpec, group_of, sums_of
from qcomp.targets.cpu.emit.lanes import chunk, over_chunks
from qcomp.targets.cpu.emit.reduce import fold_across, fold_line
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.axis import Axis


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
    """One group, whose sums of 64 bits take eight registers at a time."""
    lanes = max(spec.lanes // 2, 1)
    folds = sums_of(spec.source)
    sums = [fold_line(b, fold, spec.reduced, pointers[0], lanes) for fold in folds]
    group = group_of(b, spec, sums, roots)
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
        folds = sums_of(spec.source)
        sums = [fold_across(b, fold, spec.reduced, first[0], width) for fold in folds]
        group = group_of(b, spec, sums, roots)
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


def _element(
    b: ir.IRBuilder, spec: NormalizeSpec, group: Group, step: int, pointers: Sequence[Value]
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
