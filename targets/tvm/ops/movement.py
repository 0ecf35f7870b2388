"""Ops that move values: expressions of other indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcomp.ir.ops import (
    BlockOrder,
    BroadcastTo,
    Concat,
    DepthToSpace,
    Gather,
    Pad,
    PadMode,
    QEmbedding,
    Reshape,
    Resize2d,
    ResizeMode,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
    ZeroStuff,
)
from qcomp.quant.resample import (
    WEIGHT_BITS,
    fixed_point_weights,
    linear_weights,
    nearest_indices,
)
from qcomp.targets.tvm.api.expressions import (
    Expr,
    all_of,
    const,
    floor_quotient,
    guarded,
    remainder,
    select,
)
from qcomp.targets.tvm.api.tensors import Tensor, compute, dtype_of, shape_of
from qcomp.targets.tvm.arithmetic import I32, I64, WIDTHS, clamp, i32, rounding_shift
from qcomp.targets.tvm.builder import Builder, Functions
from qcomp.targets.tvm.ops.indexing import broadcast, padded


def reshape(b: Builder, op: Reshape) -> Tensor:
    return b.view(b.stored(op.x), op.shape)


def transpose(b: Builder, op: Transpose) -> Tensor:
    x = b.moved(op.x)

    def element(*i: Expr) -> Expr:
        source = dict(zip(op.permutation, i, strict=True))
        return x[tuple(source[axis] for axis in range(len(i)))]

    return compute(b.type(op.output).shape, element)


def concat(b: Builder, op: Concat) -> Tensor:
    """The part in which the index lies; each is read inside of itself only."""
    parts = [b.moved(t) for t in op.inputs]
    ends = np.cumsum([shape_of(p)[op.axis] for p in parts]).tolist()

    def at(part: Tensor, start: int, i: Sequence[Expr]) -> Expr:
        return part[(*i[: op.axis], i[op.axis] - start, *i[op.axis + 1 :])]

    def element(*i: Expr) -> Expr:
        found = at(parts[-1], ends[-1] - shape_of(parts[-1])[op.axis], i)
        for part, end in reversed([*zip(parts[:-1], ends[:-1], strict=True)]):
            start = end - shape_of(part)[op.axis]
            found = guarded(i[op.axis] < end, at(part, start, i), found)
        return found

    return compute(b.type(op.output).shape, element)


def slice_(b: Builder, op: Slice) -> Tensor:
    x = b.moved(op.x)

    def element(*i: Expr) -> Expr:
        walks = zip(op.starts, op.steps, i, strict=True)
        return x[tuple(index * step + start for start, step, index in walks)]

    return compute(op.sizes, element)


def pad(b: Builder, op: Pad) -> Tensor:
    x = b.moved(op.x) if op.mode is PadMode.CONSTANT else b.stored(op.x)
    extents = shape_of(x)
    checked = [bool(before or after) for before, after in zip(op.before, op.after, strict=True)]

    def source(index: Expr, before: int, extent: int) -> Expr:
        """Where an axis is read."""
        at, last = index - before, extent - 1
        match op.mode:
            case PadMode.CONSTANT:
                return at
            case PadMode.EDGE:
                return clamp(at, 0, last)
            case PadMode.REFLECT:
                inner = select(at < 0, const(0, I32) - at, at)
                return select(inner > last, const(2 * last, I32) - inner, inner)
            case PadMode.WRAP:
                return remainder(at + extent, const(extent, I32))

    def element(*i: Expr) -> Expr:
        walks = zip(i, op.before, extents, checked, strict=True)
        indices = [source(n, before, e) if used else n for n, before, e, used in walks]
        if op.mode is PadMode.CONSTANT:
            return padded(x, indices, checked, int(op.value))
        return x[tuple(indices)]

    return compute(b.type(op.output).shape, element)


def gather(b: Builder, op: Gather) -> Tensor:
    x, indices = b.stored(op.x), b.constant(b.array(op.indices).astype(np.int32))

    def element(*i: Expr) -> Expr:
        return x[(*i[: op.axis], indices[i[op.axis]], *i[op.axis + 1 :])]

    return compute(b.type(op.output).shape, element)


def q_embedding(b: Builder, op: QEmbedding) -> Tensor:
    x, table = b.stored(op.x), b.stored(op.table)
    rank, rows = len(shape_of(x)), shape_of(table)[0]

    def element(*i: Expr) -> Expr:
        place = i32(x[i[:rank]]) - i32(op.first)
        if op.wraps:
            place = select(place < 0, place + rows, place)
        return table[(clamp(place, 0, rows - 1), *i[rank:])]

    return compute(b.type(op.output).shape, element)


def broadcast_to(b: Builder, op: BroadcastTo) -> Tensor:
    x = b.stored(op.x)
    return compute(op.shape, lambda *i: broadcast(x, i))


def tile(b: Builder, op: Tile) -> Tensor:
    x = b.stored(op.x)
    extents = shape_of(x)
    return compute(
        b.type(op.output).shape,
        lambda *i: x[tuple(remainder(n, const(e, I32)) for n, e in zip(i, extents, strict=True))],
    )


def resize2d(b: Builder, op: Resize2d) -> Tensor:
    return _nearest(b, op) if op.mode is ResizeMode.NEAREST else _linear(b, op)


def _nearest(b: Builder, op: Resize2d) -> Tensor:
    x = b.stored(op.x)
    rows, columns = (
        b.constant(
            nearest_indices(extent, size, scale, op.coordinates.value, op.rounding.value).astype(
                np.int32
            )
        )
        for extent, size, scale in zip(shape_of(x)[1:3], op.size, op.scale, strict=True)
    )
    return compute(b.type(op.output).shape, lambda n, y, z, c: x[n, rows[y], columns[z], c])


def _linear(b: Builder, op: Resize2d) -> Tensor:
    """Weights in Q11 per axis, one rounding at the end; 32 bits hold the sums of i8."""
    x = b.stored(op.x)
    lane = WIDTHS[I32 if dtype_of(x) == "int8" else I64]
    one = lane(1 << WEIGHT_BITS)
    axes = []
    for extent, size, scale in zip(shape_of(x)[1:3], op.size, op.scale, strict=True):
        low, high, weight = linear_weights(extent, size, scale, op.coordinates.value)
        tables = (low, high, fixed_point_weights(weight))
        axes.append([b.constant(t.astype(np.int32)) for t in tables])
    (y0, y1, wy), (x0, x1, wx) = axes

    def element(n: Expr, y: Expr, z: Expr, c: Expr) -> Expr:
        def row(at: Expr) -> Expr:
            weight = lane(wx[z])
            return lane(x[n, at, x0[z], c]) * (one - weight) + lane(x[n, at, x1[z], c]) * weight

        acc = row(y0[y]) * (one - lane(wy[y])) + row(y1[y]) * lane(wy[y])
        return rounding_shift(acc, 2 * WEIGHT_BITS).astype(dtype_of(x))

    return compute(b.type(op.output).shape, element)


def depth_to_space(b: Builder, op: DepthToSpace) -> Tensor:
    x, block = b.moved(op.x), const(op.block, I32)
    shape = b.type(op.output).shape

    def element(n: Expr, y: Expr, z: Expr, c: Expr) -> Expr:
        place = remainder(y, block) * op.block + remainder(z, block)
        dcr = op.order is BlockOrder.DCR
        deep = place * shape[3] + c if dcr else c * (op.block * op.block) + place
        return x[n, floor_quotient(y, block), floor_quotient(z, block), deep]

    return compute(shape, element)


def space_to_depth(b: Builder, op: SpaceToDepth) -> Tensor:
    x = b.moved(op.x)
    channels, area = const(shape_of(x)[3], I32), const(op.block * op.block, I32)

    def element(n: Expr, y: Expr, z: Expr, deep: Expr) -> Expr:
        if op.order is BlockOrder.DCR:
            place, c = floor_quotient(deep, channels), remainder(deep, channels)
        else:
            place, c = remainder(deep, area), floor_quotient(deep, area)
        row = y * op.block + floor_quotient(place, const(op.block, I32))
        return x[n, row, z * op.block + remainder(place, const(op.block, I32)), c]

    return compute(b.type(op.output).shape, element)


def zero_stuff(b: Builder, op: ZeroStuff) -> Tensor:
    x, (sh, sw) = b.moved(op.x), op.stride

    def element(n: Expr, y: Expr, z: Expr, c: Expr) -> Expr:
        steps = [(y, sh), (z, sw)]
        conditions = [remainder(i, const(s, I32)) == 0 for i, s in steps if s > 1]
        row, column = (floor_quotient(i, const(s, I32)) for i, s in steps)
        pixel = x[n, row, column, c]
        if not conditions:
            return pixel
        return guarded(all_of(conditions), pixel, const(int(op.value), dtype_of(x)))

    return compute(b.type(op.output).shape, element)


FUNCTIONS: Functions = {
    Reshape: reshape,
    Transpose: transpose,
    Concat: concat,
    Slice: slice_,
    Pad: pad,
    Gather: gather,
    QEmbedding: q_embedding,
    BroadcastTo: broadcast_to,
    Tile: tile,
    Resize2d: resize2d,
    DepthToSpace: depth_to_space,
    SpaceToDepth: space_to_depth,
    ZeroStuff: zero_stuff,
}
