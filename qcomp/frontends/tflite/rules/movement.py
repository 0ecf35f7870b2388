"""What moves values and computes none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from qcomp.frontends.tflite.axes import axis_of
from qcomp.frontends.tflite.context import Node, Rule
from qcomp.frontends.tflite.quantized import qparams_of
from qcomp.frontends.tflite.slices import strided
from qcomp.ir.ops import (
    NO_CLAMP,
    BroadcastTo,
    Clamp,
    Concat,
    Coordinates,
    DepthToSpace,
    Dequantize,
    Gather,
    NearestRounding,
    Pad,
    PadMode,
    Reshape,
    Resize2d,
    ResizeMode,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
)
from qcomp.ir.tensor import TensorId

_MIRRORED = (PadMode.REFLECT, None)  # by number; SYMMETRIC repeats the edge


def reshape(node: Node) -> None:
    """To a constant shape, else that of the options, else that of the result."""
    if node.is_constant(1):
        wanted = node.integer_list(1, "the shape")
    elif node.op.options is not None and len(node.option("new_shape")):
        wanted = tuple(int(e) for e in node.option("new_shape"))
    else:
        wanted = node.result().shape
    _reshaped(node, _filled(node, wanted))


def _filled(node: Node, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """A single -1 takes what is left; the batch follows the input where it was bound."""
    size = math.prod(node.shape())
    known = math.prod(e for e in wanted if e != -1)
    if wanted.count(-1) == 1 and known > 0 and size % known == 0:
        return tuple(size // known if e == -1 else e for e in wanted)
    if wanted and wanted[0] == 1 and known > 0 and size % known == 0:
        return (size // known, *wanted[1:])
    node.require(min(wanted, default=1) > 0, f"the shape {list(wanted)} for {size} elements")
    return wanted


def squeeze(node: Node) -> None:
    shape = node.shape()
    named = node.option("squeeze_dims", ())
    axes = {axis_of(node, int(a), len(shape)) for a in named}
    gone = axes or {i for i, e in enumerate(shape) if e == 1}
    node.require(all(shape[a] == 1 for a in gone), f"axes {sorted(gone)} of {list(shape)}", "of 1")
    _reshaped(node, tuple(e for i, e in enumerate(shape) if i not in gone))


def expand_dims(node: Node) -> None:
    shape = list(node.shape())
    (axis,) = node.integer_list(1, "the axis")[:1] or (0,)
    shape.insert(axis_of(node, axis, len(shape) + 1), 1)
    _reshaped(node, tuple(shape))


def _reshaped(node: Node, shape: tuple[int, ...], index: int = 0) -> None:
    node.finish(Reshape(inputs=(node.x(),), output=node.out(index), shape=shape), index)


def transpose(node: Node) -> None:
    given = node.integer_list(1, "the permutation")
    permutation = tuple(axis_of(node, a, len(node.shape())) for a in given)
    node.finish(Transpose(inputs=(node.x(),), output=node.out(), permutation=permutation))


def concatenation(node: Node) -> None:
    """In integers all operands have the scale of the result, as TensorFlow Lite demands of i8."""
    axis = axis_of(node, node.option("axis"), len(node.shape()))
    inputs = [_on_the_grid(node, i) for i in range(len(node.op.inputs))]
    clamp = node.clamp()
    plain = clamp == NO_CLAMP
    output = node.out() if plain else node.part("joined")
    op = Concat(inputs=tuple(inputs), output=output, axis=axis)
    if plain:
        node.finish(op)
    else:
        node.finish(Clamp(inputs=(node.add(op),), output=node.out(), clamp=clamp))


def pack(node: Node) -> None:
    axis = axis_of(node, node.option("axis"), len(node.shape()) + 1)
    inputs = []
    for i in range(len(node.op.inputs)):
        shape = list(node.shape(i))
        shape.insert(axis, 1)
        op = Reshape(
            inputs=(_on_the_grid(node, i),), output=node.part(f"row{i}"), shape=tuple(shape)
        )
        inputs.append(node.add(op))
    node.finish(Concat(inputs=tuple(inputs), output=node.out(), axis=axis))


def _on_the_grid(node: Node, index: int) -> TensorId:
    """An operand in the result's scale; one of another is rounded to it first."""
    if not node.quantized:
        return node.x(index)
    qparams, tensor = qparams_of(node.result()), node.tensor(index)
    if node.is_constant(index):
        constant = node.floats(index, "the operand")
        return node.graph.add_constant(tensor.name, constant)
    id = node.x(index)
    source = node.graph.producer(id)
    own = node.graph.tensor(source.x).qparams if isinstance(source, Dequantize) else None
    origin = node.context.origin(node.result(), named=False)
    return id if own == qparams else node.context.rounded(id, qparams, origin)


def unpack(node: Node) -> None:
    shape = node.shape()
    axis = axis_of(node, node.option("axis"), len(shape))
    node.require(shape[axis] == len(node.op.outputs), f"{len(node.op.outputs)} of {shape[axis]}")
    rest = (*shape[:axis], *shape[axis + 1 :])
    for i in range(shape[axis]):
        row = node.add(_cut(node, axis, i, 1, node.part(f"row{i}")))
        node.finish(Reshape(inputs=(row,), output=node.out(i), shape=rest), i)


def split(node: Node) -> None:
    """Operands: the axis, then x."""
    (axis,) = node.integer_list(0, "the axis")[:1] or (0,)
    extent, parts = _split_axis(node, 1, axis), len(node.op.outputs)
    node.require(extent % parts == 0, f"{parts} parts of {extent}", "parts of one size")
    _split(node, 1, axis, [extent // parts] * parts)


def split_v(node: Node) -> None:
    """Operands: x, sizes, the axis; one size may be -1."""
    sizes = list(node.integer_list(1, "the sizes"))
    (axis,) = node.integer_list(2, "the axis")[:1] or (0,)
    extent = _split_axis(node, 0, axis)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = extent - sum(sizes) - 1
    fits = min(sizes, default=0) >= 1 and sum(sizes) == extent
    node.require(fits and len(sizes) == len(node.op.outputs), f"parts {sizes} of {extent}")
    _split(node, 0, axis, sizes)


def _split_axis(node: Node, index: int, axis: int) -> int:
    shape = node.shape(index)
    return shape[axis_of(node, axis, len(shape))]


def _split(node: Node, index: int, axis: int, sizes: Sequence[int]) -> None:
    axis, start = axis_of(node, axis, len(node.shape(index))), 0
    for i, size in enumerate(sizes):
        node.finish(_cut(node, axis, start, size, node.out(i), index), i)
        start += size


def _cut(node: Node, axis: int, start: int, size: int, output: TensorId, index: int = 0) -> Slice:
    shape = node.shape(index)
    starts, sizes = [0] * len(shape), list(shape)
    starts[axis], sizes[axis] = start, size
    return Slice(
        inputs=(node.x(index),),
        output=output,
        starts=tuple(starts),
        sizes=tuple(sizes),
        steps=(1,) * len(shape),
    )


def slice_(node: Node) -> None:
    begin, size = (node.integer_list(i, w) for i, w in ((1, "the begin"), (2, "the size")))
    shape = node.shape()
    node.require(len(begin) == len(size) == len(shape), f"a slice of {len(begin)} axes")
    sizes = [e - b if s == -1 else s for b, s, e in zip(begin, size, shape, strict=True)]
    node.finish(
        Slice(
            inputs=(node.x(),),
            output=node.out(),
            starts=begin,
            sizes=tuple(sizes),
            steps=(1,) * len(shape),
        )
    )


def strided_slice(node: Node) -> None:
    cut = strided(node, node.shape())
    whole = cut.shape == cut.sizes
    op = Slice(
        inputs=(node.x(),),
        output=node.out() if whole else node.part("slice"),
        starts=cut.starts,
        sizes=cut.sizes,
        steps=cut.steps,
    )
    if whole:
        node.finish(op)
    else:
        node.finish(Reshape(inputs=(node.add(op),), output=node.out(), shape=cut.shape))


def pad(node: Node) -> None:
    """With zeros, or with the real value of the third operand."""
    value = 0.0
    if node.has(2):
        given = node.floats(2, "the value")
        node.require(given.size == 1, f"{given.size} values", "one")
        value = float(given.reshape(()))
    _padded(node, PadMode.CONSTANT, value)


def mirror_pad(node: Node) -> None:
    number = node.option("mode")
    mode = _MIRRORED[number] if 0 <= number < len(_MIRRORED) else None
    if mode is None:
        node.require(False, f"mode {number}", "REFLECT")
    else:
        _padded(node, mode, 0.0)


def _padded(node: Node, mode: PadMode, value: float) -> None:
    given = node.integer_list(1, "the padding")
    rank = len(node.shape())
    node.require(len(given) == 2 * rank, f"padding of {len(given) // 2} axes, of {rank}")
    node.finish(
        Pad(
            inputs=(node.x(),),
            output=node.out(),
            before=given[0::2],
            after=given[1::2],
            mode=mode,
            value=value,
        )
    )


def gather(node: Node) -> None:
    node.require(node.option("batch_dims", 0) == 0, "batch_dims", "batch_dims=0")
    indices, shape = node.constant(1, "the indices"), node.shape()
    axis = axis_of(node, node.option("axis", 0), len(shape))
    node.require(indices.dtype.kind in "iu" and indices.size > 0, "no indices", "integers")
    fits = 0 <= indices.min() <= indices.max() < shape[axis]
    node.require(bool(fits), f"indices outside of an axis of {shape[axis]}")
    flat = node.graph.add_constant(
        f"{node.tensor(1).name}.flat", indices.reshape(-1).astype(np.int64)
    )
    plain = indices.ndim == 1
    op = Gather(
        inputs=(node.x(), flat), output=node.out() if plain else node.part("rows"), axis=axis
    )
    if plain:
        node.finish(op)
    else:
        wanted = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
        node.finish(Reshape(inputs=(node.add(op),), output=node.out(), shape=wanted))


def tile(node: Node) -> None:
    repeats = node.integer_list(1, "the repeats")
    node.finish(Tile(inputs=(node.x(),), output=node.out(), repeats=repeats))


def broadcast_to(node: Node) -> None:
    shape = node.integer_list(1, "the shape")
    node.finish(BroadcastTo(inputs=(node.x(),), output=node.out(), shape=shape))


def reverse(node: Node) -> None:
    shape = node.shape()
    axes = {axis_of(node, a, len(shape)) for a in node.integer_list(1, "the axes")}
    node.finish(
        Slice(
            inputs=(node.x(),),
            output=node.out(),
            starts=tuple(e - 1 if i in axes else 0 for i, e in enumerate(shape)),
            sizes=shape,
            steps=tuple(-1 if i in axes else 1 for i in range(len(shape))),
        )
    )


def depth_to_space(node: Node) -> None:
    block = node.option("block_size")
    node.finish(DepthToSpace(inputs=(node.x(),), output=node.out(), block=block))


def space_to_depth(node: Node) -> None:
    block = node.option("block_size")
    node.finish(SpaceToDepth(inputs=(node.x(),), output=node.out(), block=block))


def resize_bilinear(node: Node) -> None:
    _resized(node, ResizeMode.LINEAR)


def resize_nearest(node: Node) -> None:
    _resized(node, ResizeMode.NEAREST)


def _resized(node: Node, mode: ResizeMode) -> None:
    """Nearest takes the position below, with aligned corners the nearest, away from 0."""
    shape, size = node.shape(), node.integer_list(1, "the size")
    node.require(len(shape) == 4 and len(size) == 2, f"a size of {len(size)} for {list(shape)}")
    node.require(min(size) >= 1, f"the size {size}", "1 or more")
    aligned, half = node.option("align_corners", False), node.option("half_pixel_centers", False)
    node.require(not (aligned and half), "align_corners with half_pixel_centers", "one of them")
    below = NearestRounding.FLOOR
    coordinates, rounding = Coordinates.ASYMMETRIC, below
    if aligned:
        coordinates, rounding = Coordinates.ALIGN_CORNERS, NearestRounding.ROUND_PREFER_CEIL
    elif half and mode is ResizeMode.NEAREST:
        coordinates = Coordinates.TF_HALF_PIXEL_FOR_NN
    elif half:
        coordinates = Coordinates.HALF_PIXEL
    node.finish(
        Resize2d(
            inputs=(node.x(),),
            output=node.out(),
            size=(size[0], size[1]),
            scale=(size[0] / shape[1], size[1] / shape[2]),
            mode=mode,
            coordinates=coordinates,
            rounding=rounding,
        )
    )


RULES: Mapping[str, Rule] = {
    "BROADCAST_TO": broadcast_to,
    "CONCATENATION": concatenation,
    "DEPTH_TO_SPACE": depth_to_space,
    "EXPAND_DIMS": expand_dims,
    "GATHER": gather,
    "MIRROR_PAD": mirror_pad,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "RESHAPE": reshape,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "REVERSE_V2": reverse,
    "SLICE": slice_,
    "SPACE_TO_DEPTH": space_to_depth,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SQUEEZE": squeeze,
    "STRIDED_SLICE": strided_slice,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "UNPACK": unpack,
}
