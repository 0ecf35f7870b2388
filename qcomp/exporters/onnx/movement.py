"""ONNX forms of the ops that move values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx

from qcomp.exporters.onnx.writer import Layout, Writer
from qcomp.ir.ops import (
    BlockOrder,
    BroadcastTo,
    Concat,
    Coordinates,
    DepthToSpace,
    Embedding,
    Gather,
    Op,
    Pad,
    PadMode,
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
from qcomp.quant.resample import linear_weights, nearest_indices

_TO_NHWC = (0, 2, 3, 1)
_BEFORE_THE_FIRST = np.iinfo(np.int64).min


def reshape(w: Writer, op: Reshape) -> None:
    """Of a single pixel or a single channel NCHW and NHWC are the same values in the same order."""
    shape = w.graph.type(op.x).shape
    same_order = len(shape) == 4 and (shape[1] * shape[2] == 1 or shape[3] == 1)
    layout = w.common_layout(op.inputs) if same_order else Layout.OURS
    y = w.emit("Reshape", [w.read(op.x, layout), w.integers(op.shape)], allowzero=1)
    w.define(op.id, Layout.OURS, y)


def transpose(w: Writer, op: Transpose) -> None:
    """From the layout at hand, into whichever layout needs no data movement, else into ours."""
    source = w.common_layout(op.inputs)
    x = w.read(op.x, source)
    identity = tuple(range(len(op.permutation)))
    ours = tuple(source.axis(a) for a in op.permutation)
    if ours == identity:
        w.define(op.id, Layout.OURS, x)
    elif len(ours) == 4 and tuple(Layout.FIRST.arranged(ours)) == identity:
        w.define(op.id, Layout.FIRST, x)
    else:
        w.define(op.id, Layout.OURS, w.emit("Transpose", [x], perm=ours))


def concat(w: Writer, op: Concat) -> None:
    layout = w.common_layout(op.inputs)
    parts = [w.read(t, layout) for t in op.inputs]
    w.define(op.id, layout, w.emit("Concat", parts, axis=layout.axis(op.axis)))


def slice_(w: Writer, op: Slice) -> None:
    layout = w.common_layout(op.inputs)
    ends = [
        end if (end := start + size * step) >= 0 else _BEFORE_THE_FIRST
        for start, size, step in zip(op.starts, op.sizes, op.steps, strict=True)
    ]
    axes = range(len(op.starts))
    arguments = [layout.arranged(op.starts), layout.arranged(ends), axes, layout.arranged(op.steps)]
    y = w.emit("Slice", [w.read(op.x, layout), *(w.integers(list(a)) for a in arguments)])
    w.define(op.id, layout, y)


def pad(w: Writer, op: Pad) -> None:
    layout = w.common_layout(op.inputs)
    pads = w.integers([*layout.arranged(op.before), *layout.arranged(op.after)])
    operands = [w.read(op.x, layout), pads]
    if op.mode is PadMode.CONSTANT:
        operands.append(w.literal(np.array(op.value, w.graph.type(op.x).dtype.numpy)))
    w.define(op.id, layout, w.emit("Pad", operands, mode=op.mode.value))


def gather(w: Writer, op: Gather) -> None:
    layout = w.common_layout([op.x])
    operands = [w.read(op.x, layout), w.parameter(op.indices)]
    w.define(op.id, layout, w.emit("Gather", operands, axis=layout.axis(op.axis)))


def broadcast_to(w: Writer, op: BroadcastTo) -> None:
    layout = w.common_layout(op.inputs) if len(op.shape) == 4 else Layout.OURS
    shape = w.integers(layout.arranged(op.shape))
    w.define(op.id, layout, w.emit("Expand", [w.read(op.x, layout), shape]))


def tile(w: Writer, op: Tile) -> None:
    layout = w.common_layout(op.inputs)
    repeats = w.integers(layout.arranged(op.repeats))
    w.define(op.id, layout, w.emit("Tile", [w.read(op.x, layout), repeats]))


def depth_to_space(w: Writer, op: DepthToSpace) -> None:
    x = w.read(op.x, Layout.FIRST)
    mode = op.order.name
    w.define(op.id, Layout.FIRST, w.emit("DepthToSpace", [x], blocksize=op.block, mode=mode))


def space_to_depth(w: Writer, op: SpaceToDepth) -> None:
    """ONNX's SpaceToDepth knows one order; the other is spelt out."""
    x = w.read(op.x, Layout.FIRST)
    if op.order is BlockOrder.DCR:
        w.define(op.id, Layout.FIRST, w.emit("SpaceToDepth", [x], blocksize=op.block))
        return
    (n, h, wide, c), b = w.graph.type(op.x).shape, op.block
    split = w.emit("Reshape", [x, w.integers([n, c, h // b, b, wide // b, b])])
    moved = w.emit("Transpose", [split], perm=(0, 1, 3, 5, 2, 4))
    y = w.emit("Reshape", [moved, w.integers([n, c * b * b, h // b, wide // b])])
    w.define(op.id, Layout.FIRST, y)


def zero_stuff(w: Writer, op: ZeroStuff) -> None:
    """Put zeros between pixels: a row and a column for each, padded, then cut behind the last."""
    (n, h, wide, c), (sh, sw) = w.graph.type(op.x).shape, op.stride
    _, out_h, out_w, _ = w.graph.type(op.output).shape
    x = w.read(op.x, Layout.FIRST)
    apart = w.emit("Reshape", [x, w.integers([n, c, h, 1, wide, 1])])
    pads = w.integers([0, 0, 0, 0, 0, 0, 0, 0, 0, sh - 1, 0, sw - 1])
    value = w.literal(np.array(op.value, w.graph.type(op.x).dtype.numpy))
    grown = w.emit("Pad", [apart, pads, value])
    joined = w.emit("Reshape", [grown, w.integers([n, c, h * sh, wide * sw])])
    bounds = [w.integers([0, 0]), w.integers([out_h, out_w]), w.integers([2, 3])]
    w.define(op.id, Layout.FIRST, w.emit("Slice", [joined, *bounds]))


def resize2d(w: Writer, op: Resize2d) -> None:
    """Resize where ONNX can say size and scale both; else two products with sampling matrices."""
    x = w.read(op.x, Layout.FIRST)
    _, height, width, _ = w.graph.type(op.x).shape
    if (target := _resize_target(w, op, (height, width))) is not None:
        y = w.emit(
            "Resize",
            [x, "", *target],
            mode=op.mode.value,
            coordinate_transformation_mode=op.coordinates.value,
            nearest_mode=op.rounding.value,
        )
    else:
        rows, columns = _sampling_matrix(op, 0, height), _sampling_matrix(op, 1, width)
        y = w.emit("MatMul", [w.emit("MatMul", [w.literal(rows), x]), w.literal(columns.T)])
    w.define(op.id, Layout.FIRST, y)


def _resize_target(w: Writer, op: Resize2d, source: tuple[int, int]) -> list[str] | None:
    """The operands `scales, sizes`: ONNX takes one and infers the other.

    ONNX Runtime copies where the shape stays, whatever the scales say.
    """
    scales = [np.float32(s) for s in op.scale]
    if op.size == source and scales != [1, 1]:
        return None
    inferred = [math.floor(float(s) * extent) for s, extent in zip(scales, source, strict=True)]
    if tuple(inferred) == op.size:
        return [w.literal(np.array([1, 1, *scales], np.float32))]
    ratios = [np.float32(o) / np.float32(i) for o, i in zip(op.size, source, strict=True)]
    if ratios == scales or op.coordinates is Coordinates.ALIGN_CORNERS:
        channels = w.graph.type(op.x)
        return ["", w.integers([channels.shape[0], channels.shape[3], *op.size])]
    return None


def _sampling_matrix(op: Resize2d, axis: int, extent: int) -> Array:
    """Row o holds the weights that make result position o, [out, in]."""
    size, scale, coordinates = op.size[axis], op.scale[axis], op.coordinates.value
    matrix, rows = np.zeros((size, extent), np.float32), np.arange(size)
    if op.mode is ResizeMode.NEAREST:
        matrix[rows, nearest_indices(extent, size, scale, coordinates, op.rounding.value)] = 1
    else:
        i0, i1, w1 = linear_weights(extent, size, scale, coordinates)
        np.add.at(matrix, (rows, i0), 1 - w1)
        np.add.at(matrix, (rows, i1), w1)
    return matrix


def embedding(w: Writer, op: Embedding) -> None:
    """Gather reads no indices beyond the table; those below 0 count from its end."""
    rows = w.graph.type(op.table).shape[0]
    whole = w.emit("Round", [w.read(op.x, Layout.OURS)])
    if op.first:
        whole = w.emit("Sub", [whole, w.scalar(float(op.first))])
    low = -rows if op.wraps else 0
    within = w.emit("Clip", [whole, w.scalar(float(low)), w.scalar(float(rows - 1))])
    index = w.emit("Cast", [within], to=onnx.TensorProto.INT64)
    y = w.emit("Gather", [w.read(op.table, Layout.OURS), index], axis=0)
    w.define(op.id, Layout.OURS, y)


RULES: Mapping[type[Op], Callable[..., None]] = {
    Reshape: reshape,
    Transpose: transpose,
    Concat: concat,
    Slice: slice_,
    Pad: pad,
    Embedding: embedding,
    Gather: gather,
    BroadcastTo: broadcast_to,
    Tile: tile,
    Resize2d: resize2d,
    DepthToSpace: depth_to_space,
    SpaceToDepth: space_to_depth,
    ZeroStuff: zero_stuff,
}
