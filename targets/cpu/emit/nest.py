"""Loop nests over strided operands: the shape of every elementwise op and every movement.

A nest has one result and any number of sources; axes that step evenly in all of them are merged,
the last axis is vectorised where its strides are 0 or the element size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import (
    Value,
    at,
    broadcast,
    load,
    loop,
    multiple,
    store,
    vector,
)

Body = Callable[[ir.IRBuilder, Sequence[Value], int], Value]


@dataclass(frozen=True)
class Nest:
    """extents, and per operand (sources first, the result last) a stride in bytes for each axis.

    `sizes` are the element sizes in bytes. `indexed` lists (axis, source): the offset along that
    axis is read from a table of i32, one more pointer of the kernel for each.
    """

    extents: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    indexed: tuple[tuple[int, int], ...] = ()


def simplified(nest: Nest) -> Nest:
    """Axes of extent 1 dropped, neighbours that step evenly merged."""
    fixed = {axis for axis, _ in nest.indexed}
    axes = [i for i, e in enumerate(nest.extents) if e != 1 or i in fixed]
    groups: list[list[int]] = []
    for i in axes:
        if groups and i not in fixed and groups[-1][-1] not in fixed and _even(nest, groups[-1], i):
            groups[-1].append(i)
        else:
            groups.append([i])
    extents = tuple(math.prod(nest.extents[i] for i in g) for g in groups)
    strides = tuple(tuple(s[g[-1]] for g in groups) for s in nest.strides)
    where = {axis: n for n, g in enumerate(groups) for axis in g}
    indexed = tuple((where[axis], source) for axis, source in nest.indexed)
    return Nest(extents, strides, nest.sizes, indexed)


def _even(nest: Nest, group: Sequence[int], axis: int) -> bool:
    last = group[-1]
    return all(s[last] == s[axis] * nest.extents[axis] for s in nest.strides)


def emit_nest(
    b: ir.IRBuilder,
    nest: Nest,
    pointers: Sequence[Value],
    types: Sequence[ir.Type],
    body: Body,
    width: int,
    tables: Sequence[Value] = (),
) -> None:
    """body(b, sources, lanes) -> result, on vectors of at most `width` lanes; ends the function.

    `types` are the element types of sources and result. Vectors shrink in powers of two at the end
    of the last axis, so nothing outside the operands is touched.
    """
    axes = len(nest.extents)
    table_of = {key: tables[n] for n, key in enumerate(nest.indexed)}

    def advance(axis: int, index: Value | int, at_: Sequence[Value]) -> list[Value]:
        moved = []
        for n, pointer in enumerate(at_):
            if (axis, n) in table_of:
                slot = at(b, table_of[axis, n], multiple(b, index, 4))
                offset = b.sext(load(b, slot, ir.IntType(32), 4), ir.IntType(64))
            else:
                offset = multiple(b, index, nest.strides[n][axis])
            moved.append(at(b, pointer, offset))
        return moved

    def outer(axis: int, at_: Sequence[Value]) -> None:
        if axis >= axes - 1:
            inner(at_)
            return
        loop(b, nest.extents[axis], lambda i: outer(axis + 1, advance(axis, i, at_)), f"axis{axis}")

    def inner(at_: Sequence[Value]) -> None:
        extent = nest.extents[-1] if axes else 1
        steps = [s[-1] if axes else 0 for s in nest.strides]
        vectorised = (
            extent > 1
            and all(
                s == size or (s == 0 and n < len(steps) - 1)
                for n, (s, size) in enumerate(zip(steps, nest.sizes, strict=True))
            )
            and not any(axis == axes - 1 for axis, _ in nest.indexed)
        )
        if not vectorised:
            loop(
                b,
                extent,
                lambda i: apply(advance(axes - 1, i, at_) if axes else at_, 1, steps),
                "x",
            )
            return
        whole, rest = divmod(extent, width)

        def vectors(i: Value | int, lanes: int = width) -> None:
            apply(advance(axes - 1, multiple(b, i, lanes), at_), lanes, steps)

        loop(b, whole, vectors, "x")
        done = whole * width
        while rest:
            lanes = 1 << (rest.bit_length() - 1)
            apply(advance(axes - 1, done, at_), lanes, steps)
            done, rest = done + lanes, rest - lanes

    def apply(at_: Sequence[Value], lanes: int, steps: Sequence[int]) -> None:
        values = []
        for pointer, type, step in zip(at_[:-1], types[:-1], steps[:-1], strict=True):
            if lanes > 1 and step == 0:
                values.append(broadcast(b, load(b, pointer, type), lanes))
            else:
                values.append(load(b, pointer, vector(type, lanes)))
        store(b, body(b, values, lanes), at_[-1])

    outer(0, list(pointers))
    b.ret_void()


def copy_body(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
    """The body of a movement."""
    return values[0]
