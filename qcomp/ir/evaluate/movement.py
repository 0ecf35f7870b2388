"""Meanings of the ops that move values; each serves every element type.

Only bilinear resampling computes: in float64 for floats, in exact integers for i8 and i16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.ops import (
    BlockOrder,
    BroadcastTo,
    Concat,
    DepthToSpace,
    Gather,
    Op,
    Pad,
    PadMode,
    QResize2d,
    Reshape,
    Resize2d,
    ResizeMode,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
    ZeroStuff,
)
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import rounding_shift
from qcomp.quant.resample import (
    F64,
    I64,
    WEIGHT_BITS,
    fixed_point_weights,
    linear_weights,
    nearest_indices,
)


def reshape(op: Reshape, x: Array) -> Array:
    return x.reshape(op.shape)


def transpose(op: Transpose, x: Array) -> Array:
    return x.transpose(op.permutation)


def concat(op: Concat, *parts: Array) -> Array:
    return np.concatenate(parts, axis=op.axis)


def slice_(op: Slice, x: Array) -> Array:
    indices = (
        start + step * np.arange(size)
        for start, size, step in zip(op.starts, op.sizes, op.steps, strict=True)
    )
    return x[np.ix_(*indices)]


def pad(op: Pad, x: Array) -> Array:
    border = tuple(zip(op.before, op.after, strict=True))
    match op.mode:
        case PadMode.CONSTANT:
            return np.pad(x, border, constant_values=x.dtype.type(op.value))
        case PadMode.REFLECT:
            return np.pad(x, border, mode="reflect")
        case PadMode.EDGE:
            return np.pad(x, border, mode="edge")
        case PadMode.WRAP:
            return np.pad(x, border, mode="wrap")


def gather(op: Gather, x: Array, indices: I64) -> Array:
    return np.take(x, indices, axis=op.axis)


def broadcast_to(op: BroadcastTo, x: Array) -> Array:
    return np.broadcast_to(x, op.shape).copy()


def tile(op: Tile, x: Array) -> Array:
    return np.tile(x, op.repeats)


def resize2d(op: Resize2d, x: Array) -> Array:
    if op.mode is ResizeMode.NEAREST:
        return _resize_nearest(op, x)
    return _resize_linear_integer(op, x) if x.dtype.kind == "i" else _resize_linear(op, x)


def _resize_nearest(op: Resize2d, x: Array) -> Array:
    rows, columns = (
        nearest_indices(x.shape[axis + 1], size, scale, op.coordinates.value, op.rounding.value)
        for axis, (size, scale) in enumerate(zip(op.size, op.scale, strict=True))
    )
    return x[:, rows][:, :, columns]


def _resize_linear(op: Resize2d, x: Array) -> Array:
    (y0, y1, wy), (x0, x1, wx) = _linear_axes(op, x)
    wy, wx = wy[:, None, None], wx[:, None]
    top, bottom = x[:, y0].astype(np.float64), x[:, y1].astype(np.float64)
    rows = top * (1 - wy) + bottom * wy
    return np.asarray(rows[:, :, x0] * (1 - wx) + rows[:, :, x1] * wx, x.dtype)


def _resize_linear_integer(op: Resize2d, x: Array) -> Array:
    """Weights in Q11 per axis, one rounding (half up) at the end.

    |acc| <= 128 * 2^22 + 2^21 < 2^31, so 32 bits hold it for i8; for i16 it has 38 bits.
    """
    (y0, y1, wy), (x0, x1, wx) = _linear_axes(op, x)
    qy, qx = fixed_point_weights(wy)[:, None, None], fixed_point_weights(wx)[:, None]
    one = np.int64(1 << WEIGHT_BITS)
    wide = x.astype(np.int64)
    columns: I64 = np.add(wide[:, :, x0] * (one - qx), wide[:, :, x1] * qx)
    acc: I64 = np.add(columns[:, y0] * (one - qy), columns[:, y1] * qy)
    return rounding_shift(acc, 2 * WEIGHT_BITS).astype(x.dtype)


def q_resize2d(op: QResize2d, x: Array, rows: Array, columns: Array) -> Array:
    (y0, y1, wy), (x0, x1, wx) = (t.astype(np.int64).T for t in (rows, columns))
    wy, wx, one = wy[:, None, None], wx[:, None], np.int64(1 << 10)
    wide = x.astype(np.int64)
    along: I64 = np.add(wide[:, :, x0] * (one - wx), wide[:, :, x1] * wx)
    acc: I64 = np.add(along[:, y0] * (one - wy), along[:, y1] * wy)
    return np.asarray(np.sign(acc) * rounding_shift(np.abs(acc), 20), x.dtype)


def _linear_axes(op: Resize2d, x: Array) -> list[tuple[I64, I64, F64]]:
    return [
        linear_weights(x.shape[axis + 1], size, scale, op.coordinates.value)
        for axis, (size, scale) in enumerate(zip(op.size, op.scale, strict=True))
    ]


def depth_to_space(op: DepthToSpace, x: Array) -> Array:
    (n, h, w, c), b = x.shape, op.block
    depth = c // (b * b)
    if op.order is BlockOrder.DCR:
        blocks = x.reshape(n, h, w, b, b, depth).transpose(0, 1, 3, 2, 4, 5)
    else:
        blocks = x.reshape(n, h, w, depth, b, b).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, h * b, w * b, depth)


def space_to_depth(op: SpaceToDepth, x: Array) -> Array:
    (n, h, w, c), b = x.shape, op.block
    blocks = x.reshape(n, h // b, b, w // b, b, c)
    order = (0, 1, 3, 2, 4, 5) if op.order is BlockOrder.DCR else (0, 1, 3, 5, 2, 4)
    return blocks.transpose(order).reshape(n, h // b, w // b, c * b * b)


def zero_stuff(op: ZeroStuff, x: Array) -> Array:
    n, h, w, c = x.shape
    sh, sw = op.stride
    result = np.full((n, (h - 1) * sh + 1, (w - 1) * sw + 1, c), x.dtype.type(op.value))
    result[:, ::sh, ::sw] = x
    return result


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Reshape: reshape,
    Transpose: transpose,
    Concat: concat,
    Slice: slice_,
    Pad: pad,
    Gather: gather,
    BroadcastTo: broadcast_to,
    Tile: tile,
    Resize2d: resize2d,
    QResize2d: q_resize2d,
    DepthToSpace: depth_to_space,
    SpaceToDepth: space_to_depth,
    ZeroStuff: zero_stuff,
}
