"""TFLite forms of the ops that move integers; operands and results have one scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.exporters.tflite.integers import Integers
from qcomp.exporters.tflite.moves import gathered, looked_up, reshaped, sliced, transposed
from qcomp.exporters.tflite.transposed import is_absorbed
from qcomp.exporters.tflite.writer import Writer
from qcomp.ir.evaluate.embedding import places
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
from qcomp.quant.qparams import QParams, dequantize, integer_range, quantize
from qcomp.quant.resample import nearest_indices

_MOST_TABLE = 1 << 24  # elements
_LINEAR: Mapping[Coordinates, Mapping[str, bool]] = {
    Coordinates.HALF_PIXEL: {"half_pixel_centers": True},
    Coordinates.ALIGN_CORNERS: {"align_corners": True},
    Coordinates.ASYMMETRIC: {},
}


def _read(w: Writer, op: Op) -> tuple[int, tuple[int, ...], QParams]:
    """The first operand: its tensor, shape and parameters."""
    id = op.inputs[0]
    q = w.qparams(id)
    return w.operand(id, q.bits), w.shape(id), q


def reshape(w: Writer, op: Reshape) -> None:
    x, _, q = _read(w, op)
    w.settle(op, reshaped(w, x, op.shape, q), q)


def transpose(w: Writer, op: Transpose) -> None:
    x, shape, q = _read(w, op)
    w.settle(op, transposed(w, x, shape, op.permutation, q), q)


def concat(w: Writer, op: Concat) -> None:
    q = w.result_qparams(op)
    parts = [w.operand(t, q.bits, like=q) for t in op.inputs]
    w.finish(op, "CONCATENATION", parts, table="ConcatenationOptions", axis=op.axis)


def slice_(w: Writer, op: Slice) -> None:
    x, _, q = _read(w, op)
    w.settle(op, sliced(w, x, op.starts, op.sizes, op.steps, q), q)


def pad(w: Writer, op: Pad) -> None:
    """PADV2, MIRROR_PAD, or pixels that are gathered again."""
    x, shape, q = _read(w, op)
    grown = w.shape(op.output)
    if op.mode is PadMode.CONSTANT:
        sides = w.numbers(np.stack([op.before, op.after], axis=1))
        value = w.literal(np.array(op.value, np.float32), q)
        w.settle(op, w.through("PADV2", x, grown, q, sides, value), q)
        return
    modes: Mapping[PadMode, str] = {
        PadMode.REFLECT: "reflect",
        PadMode.EDGE: "edge",
        PadMode.WRAP: "wrap",
    }
    at = list(shape)
    for axis, (before, after) in enumerate(zip(op.before, op.after, strict=True)):
        if before or after:
            name = modes[op.mode]
            indices = np.pad(np.arange(shape[axis]), (before, after), mode=name)  # type: ignore[call-overload]
            x = gathered(w, x, at, axis, indices, q)
            at[axis] = indices.size
    w.settle(op, x, q)


def gather(w: Writer, op: Gather) -> None:
    x, shape, q = _read(w, op)
    w.settle(op, gathered(w, x, shape, op.axis, w.graph.data(op.indices), q), q)


def broadcast_to(w: Writer, op: BroadcastTo) -> None:
    x, _, q = _read(w, op)
    w.settle(op, w.through("BROADCAST_TO", x, op.shape, q, w.numbers(op.shape)), q)


def tile(w: Writer, op: Tile) -> None:
    x, _, q = _read(w, op)
    repeats = w.numbers(op.repeats)
    w.settle(op, w.through("TILE", x, w.shape(op.output), q, repeats), q)


def depth_to_space(w: Writer, op: DepthToSpace) -> None:
    """The order that TensorFlow does not know is spelt out, and so are 16 bits."""
    x, (n, h, wide, c), q = _read(w, op)
    b, grown, depth = op.block, w.shape(op.output), c // op.block**2
    if op.order is BlockOrder.DCR and q.bits == 8:
        y = w.through(
            "DEPTH_TO_SPACE", x, grown, q, table="DepthToSpaceOptions", block_size=op.block
        )
    else:
        first = op.order is BlockOrder.DCR
        split = (n, h, wide, b, b, depth) if first else (n, h, wide, depth, b, b)
        order = (0, 1, 3, 2, 4, 5) if first else (0, 1, 4, 2, 5, 3)
        apart = transposed(w, reshaped(w, x, split, q), split, order, q)
        y = reshaped(w, apart, grown, q)
    w.settle(op, y, q)


def space_to_depth(w: Writer, op: SpaceToDepth) -> None:
    x, (n, h, wide, c), q = _read(w, op)
    b, deep = op.block, w.shape(op.output)
    if op.order is BlockOrder.DCR and q.bits == 8:
        y = w.through("SPACE_TO_DEPTH", x, deep, q, table="SpaceToDepthOptions", block_size=b)
    else:
        split = (n, h // b, b, wide // b, b, c)
        order = (0, 1, 3, 2, 4, 5) if op.order is BlockOrder.DCR else (0, 1, 3, 5, 2, 4)
        apart = transposed(w, reshaped(w, x, split, q), split, order, q)
        y = reshaped(w, apart, deep, q)
    w.settle(op, y, q)


def zero_stuff(w: Writer, op: ZeroStuff) -> None:
    """Rows and columns of zeros behind each pixel, less those behind the last; none where the
    convolution that reads them is a transposed one.
    """
    if is_absorbed(w.graph, op):
        w.absorb(op)
        return
    x, (n, h, wide, c), q = _read(w, op)
    sh, sw = op.stride
    value = w.literal(np.array(op.value, np.float32), q)
    for split, behind, joined in (
        ((n * h, 1, wide, c), (sh - 1, 0), (n, h * sh, wide, c)),
        ((n * h * sh * wide, 1, 1, c), (0, sw - 1), (n, h * sh, wide * sw, c)),
    ):
        sides = w.numbers([[0, 0], [0, behind[0]], [0, behind[1]], [0, 0]])
        grown = (split[0], split[1] + behind[0], split[2] + behind[1], c)
        apart = w.through("PADV2", reshaped(w, x, split, q), grown, q, sides, value)
        x = reshaped(w, apart, joined, q)
    y = sliced(w, x, (0, 0, 0, 0), w.shape(op.output), (1, 1, 1, 1), q)
    w.settle(op, y, q)


def resize2d(w: Writer, op: Resize2d) -> None:
    """Nearest pixels are gathered at the indices that the op means, whatever its coordinates."""
    x, shape, q = _read(w, op)
    if op.mode is ResizeMode.NEAREST:
        at = list(shape)
        for axis in (1, 2):
            extent, size, scale = shape[axis], op.size[axis - 1], op.scale[axis - 1]
            indices = nearest_indices(extent, size, scale, op.coordinates.value, op.rounding.value)
            x = gathered(w, x, at, axis, indices, q)
            at[axis] = size
        w.settle(op, x, q)
        return
    ratios = [np.float32(a) / np.float32(b) for a, b in zip(op.size, shape[1:3], strict=True)]
    known = op.coordinates is Coordinates.ALIGN_CORNERS or np.allclose(ratios, op.scale, rtol=1e-6)
    accepted = ", ".join(c.value for c in _LINEAR)
    w.require(
        op,
        known and op.coordinates in _LINEAR,
        f"linear in {op.coordinates.value} by {op.scale}",
        f"{accepted}, by the ratio of the sizes",
    )
    options = _LINEAR[op.coordinates]
    y = w.through(
        "RESIZE_BILINEAR",
        x,
        w.shape(op.output),
        q,
        w.numbers(op.size),
        table="ResizeBilinearOptions",
        **options,
    )
    w.settle(op, y, q)


def embedding(w: Writer, op: Embedding) -> None:
    """A row for each integer that an index may be, clamped to the rows that there are."""
    x, shape, q = _read(w, op)
    wanted = w.result_qparams(op)
    table = w.graph.data(op.table)
    low, high = integer_range(q.bits)
    rows = dequantize(np.arange(low, high + 1), q)
    found = table[places(np.rint(rows).astype(np.intp) - op.first, len(table), op.wraps)]
    w.require(op, found.size <= _MOST_TABLE, f"a table of {found.size}", f"up to {_MOST_TABLE}")
    values = w.integers(op.table, _rounded(found, wanted))
    y = looked_up(w, x, shape, q.bits, values, w.shape(op.output), wanted)
    w.settle(op, y, wanted)


def _rounded(real: NDArray[np.float32], q: QParams) -> Integers:
    return Integers(quantize(real, q), np.array([q.scale]), zero_point=q.zero_point)


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
