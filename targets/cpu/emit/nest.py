"""Loop nests over strided operands: the shape of every elementwise op and every movement.

A nest has one result and any number of sources; axes that step evenly in all of them are merged,
the last axis is vectorised where its strides are 0 or the element size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    Value,
    at,
    broadcast,
    load,
    loop,
    multiple,
    overlapped,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import powers
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import word_type

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


def of_bytes(nest: Nest) -> Nest:
    """A copy whose elements are bytes: those of an element are its last axis."""
    if set(nest.sizes) == {1}:
        return nest
    (size,) = set(nest.sizes)
    strides = tuple((*steps, 1) for steps in nest.strides)
    return simplified(Nest((*nest.extents, size), strides, (1,) * len(strides), nest.indexed))


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
    span: Span,
    tables: Sequence[Value] = (),
) -> None:
    """body(b, sources, lanes) -> result, on vectors of at most `width` lanes; ends the function.

    `types` are the element types of sources and result, the span is of `nest_units`. Nothing
    outside the operands is touched: the last vectors of an axis are moved back to end with it, and
    an axis shorter than a vector is cut in pieces of powers of two.
    """
    axes = len(nest.extents)
    table_of = {key: tables[n] for n, key in enumerate(nest.indexed)}
    steps = [s[-1] if axes else 0 for s in nest.strides]

    def advance(axis: int, index: Value | int, at_: Sequence[Value]) -> list[Value]:
        moved = []
        offset: Value | int
        for n, pointer in enumerate(at_):
            if (axis, n) in table_of:
                slot = at(b, table_of[axis, n], multiple(b, index, 4))
                offset = b.sext(load(b, slot, I32, 4), word_type(b))
            else:
                offset = multiple(b, index, nest.strides[n][axis])
            moved.append(at(b, pointer, offset))
        return moved

    def run(axis: int, at_: Sequence[Value]) -> None:
        """The loops from `axis` inwards; the outermost one is over the span."""
        count, visit = (
            (nest.extents[axis], lambda i: run(axis + 1, advance(axis, i, at_)))
            if axis < axes - 1
            else innermost(at_)
        )
        if axis == 0 and count > 1:
            span.loop(b, visit)
        else:
            loop(b, count, visit, f"axis{axis}")

    def innermost(at_: Sequence[Value]) -> tuple[int, Callable[[Value | int], None]]:
        extent = nest.extents[-1] if axes else 1
        if not _is_vectorised(nest) or extent == 1:
            return extent, lambda i: apply(advance(axes - 1, i, at_) if axes else at_, 1)
        if extent < width:
            block, pieces = extent, list(powers(extent))
        else:
            block = _block(extent, width)
            pieces = [(start, width) for start in range(0, block, width)]

        def visit(i: Value | int) -> None:
            first = advance(axes - 1, overlapped(b, i, block, extent), at_)
            for start, lanes in pieces:
                apply(advance(axes - 1, start, first), lanes)

        return -(-extent // block), visit

    def apply(at_: Sequence[Value], lanes: int) -> None:
        values = []
        for pointer, type, step in zip(at_[:-1], types[:-1], steps[:-1], strict=True):
            if lanes > 1 and step == 0:
                values.append(broadcast(b, load(b, pointer, type), lanes))
            else:
                values.append(load(b, pointer, vector(type, lanes)))
        store(b, body(b, values, lanes), at_[-1])

    run(0, list(pointers))
    b.ret_void()


def nest_units(nest: Nest, width: int) -> int:
    """Units of work: positions of the outermost axis, or blocks of vectors of the only one."""
    if not nest.extents:
        return 1
    extent = nest.extents[0]
    if len(nest.extents) > 1 or not _is_vectorised(nest):
        return extent
    return -(-extent // _block(extent, width)) if extent >= width else 1


def _is_vectorised(nest: Nest) -> bool:
    """Neighbours along the last axis lie side by side, or are one element of a source."""
    if not nest.extents or any(axis == len(nest.extents) - 1 for axis, _ in nest.indexed):
        return False
    *sources, result = zip((s[-1] for s in nest.strides), nest.sizes, strict=True)
    return result[0] == result[1] and all(step in (0, size) for step, size in sources)


def _block(extent: int, width: int) -> int:
    """One, two or four vectors at once: what covers the extent with the fewest, then the most."""
    blocks = [n * width for n in (4, 2, 1) if n * width <= extent]
    return min(blocks, key=lambda block: -(-extent // block) * block)


def copy_body(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
    """The body of a movement."""
    return values[0]
