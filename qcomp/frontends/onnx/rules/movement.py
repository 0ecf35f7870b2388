"""Operators that move values: shapes, axes, concatenation, gathering, depth and space."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.layout import NCHW_FROM_NHWC, NHWC_FROM_NCHW
from qcomp.frontends.onnx.rules.embedding import embedding, one_hot
from qcomp.frontends.onnx.rules.reduction import normalized, normalized_all
from qcomp.ir.ops import (
    BlockOrder,
    BroadcastTo,
    Concat,
    DepthToSpace,
    Gather,
    Reshape,
    SpaceToDepth,
    Tile,
    Transpose,
)
from qcomp.ir.ops.movement import Movement
from qcomp.ir.tensor import TensorId


def _reshaped(node: Node, shape: tuple[int, ...]) -> None:
    if shape == node.shape():
        node.alias(node.x())
    else:
        node.add(Reshape(inputs=(node.x(),), output=node.out(), shape=shape))


def reshape(node: Node) -> None:
    """0 copies the input's extent (unless allowzero), -1 takes what is left."""
    x = node.shape()
    wanted = list(node.integer_list(1, "the shape"))
    if not node.integer("allowzero", 0):
        for axis, extent in enumerate(wanted):
            node.require(extent != 0 or axis < len(x), f"shape {wanted} copies axis {axis}")
            wanted[axis] = extent or x[axis]
    node.require(
        wanted.count(-1) <= 1 and min(wanted, default=1) >= -1 and 0 not in wanted,
        f"shape {wanted}",
        "positive extents and one -1",
    )
    known = math.prod(e for e in wanted if e != -1)
    if -1 in wanted:
        node.require(math.prod(x) % known == 0, f"{list(x)} does not divide into shape {wanted}")
        wanted[wanted.index(-1)] = math.prod(x) // known
    _reshaped(node, tuple(wanted))


def flatten(node: Node) -> None:
    x = node.shape()
    axis = node.integer("axis", 1)
    node.require(-len(x) <= axis <= len(x), f"axis {axis} of rank {len(x)}")
    axis += len(x) if axis < 0 else 0
    _reshaped(node, (math.prod(x[:axis]), math.prod(x[axis:])))


def _axes(node: Node, rank: int) -> tuple[int, ...]:
    """`axes`, an attribute before opset 13, then an input."""
    given = node.integer_list(1, "axes") if node.has(1) else node.integers("axes", ())
    return normalized_all(node, given, rank)


def squeeze(node: Node) -> None:
    x = node.shape()
    axes = _axes(node, len(x)) or tuple(i for i, extent in enumerate(x) if extent == 1)
    node.require(all(x[a] == 1 for a in axes), f"axes {list(axes)} of {list(x)} are not all 1")
    _reshaped(node, tuple(e for i, e in enumerate(x) if i not in axes))


def unsqueeze(node: Node) -> None:
    x = node.shape()
    given = node.integer_list(1, "axes") if node.has(1) else node.integers("axes")
    rank = len(x) + len(given)
    axes = normalized_all(node, given, rank)
    extents = iter(x)
    _reshaped(node, tuple(1 if i in axes else next(extents) for i in range(rank)))


def expand(node: Node) -> None:
    wanted = node.integer_list(1, "the shape")
    x = node.shape()
    node.require(min(wanted, default=1) >= 1, f"shape {list(wanted)}", "positive extents")
    shape = tuple(int(e) for e in np.broadcast_shapes(x, wanted))
    if shape == x:
        node.alias(node.x())
    else:
        node.add(BroadcastTo(inputs=(node.x(),), output=node.out(), shape=shape))


def tile(node: Node) -> None:
    repeats = node.integer_list(1, "the repeats")
    node.add(Tile(inputs=(node.x(),), output=node.out(), repeats=repeats))


def transpose(node: Node) -> None:
    default = tuple(reversed(range(len(node.shape()))))
    node.add(
        Transpose(inputs=(node.x(),), output=node.out(), permutation=node.integers("perm", default))
    )


def concat(node: Node) -> None:
    """Empty constants join as nothing."""
    present = [i for i in range(node.arity) if math.prod(node.shape(i)) > 0]
    node.require(bool(present), "all operands are empty")
    axis = normalized(node, node.integer("axis"), len(node.shape(present[0])))
    if len(present) == 1:
        node.alias(node.x(present[0]))
    else:
        operands = tuple(node.x(i) for i in present)
        node.add(Concat(inputs=operands, output=node.out(), axis=axis))


def gather(node: Node) -> None:
    """Indices of any rank: one axis of the result per axis of the indices."""
    if node.is_constant(0):
        embedding(node)
        return
    x = node.shape()
    axis = normalized(node, node.integer("axis", 0), len(x))
    indices = node.constant(1, "the indices")
    node.require(indices.dtype.kind in "iu" and indices.size > 0, "the indices are no integers")
    node.require(
        bool(((indices >= -x[axis]) & (indices < x[axis])).all()),
        f"indices leave axis {axis} of {list(x)}",
    )
    positive = np.where(indices < 0, indices + x[axis], indices).astype(np.int64)
    key = node.weight(1, positive.reshape(-1), f"indices of axis {x[axis]}")
    exact = indices.ndim == 1
    y = node.add(
        Gather(
            inputs=(node.x(), key), output=node.out() if exact else node.part("gather"), axis=axis
        )
    )
    if not exact:
        shape = (*x[:axis], *indices.shape, *x[axis + 1 :])
        node.add(Reshape(inputs=(y,), output=node.out(), shape=shape))


def _nhwc(node: Node) -> TensorId:
    rank = len(node.shape())
    node.require(rank == 4, f"input of rank {rank}", "rank 4, NCHW")
    return node.add(
        Transpose(inputs=(node.x(),), output=node.part("nhwc"), permutation=NHWC_FROM_NCHW)
    )


def _order(node: Node) -> BlockOrder:
    mode = node.text("mode", "DCR")
    node.require(mode in ("DCR", "CRD"), f"mode={mode}", "DCR, CRD")
    return BlockOrder[mode]


def depth_to_space(node: Node) -> None:
    block = node.integer("blocksize")
    op = DepthToSpace(
        inputs=(_nhwc(node),), output=node.part("d2s"), block=block, order=_order(node)
    )
    _nchw(node, op)


def space_to_depth(node: Node) -> None:
    block = node.integer("blocksize")
    op = SpaceToDepth(
        inputs=(_nhwc(node),), output=node.part("s2d"), block=block, order=_order(node)
    )
    _nchw(node, op)


def _nchw(node: Node, op: Movement) -> None:
    y = node.add(op)
    node.add(Transpose(inputs=(y,), output=node.out(), permutation=NCHW_FROM_NHWC))


def identity(node: Node) -> None:
    node.alias(node.x())


def dropout(node: Node) -> None:
    node.require(node.unused(1), "its mask output is used", "the first output only")
    if node.has(2):
        training = node.scalar(2, "training_mode")
        node.require(training == 0, "training_mode is true", "inference")
    node.alias(node.x())


RULES: Mapping[str, Rule] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Identity": identity,
    "OneHot": one_hot,
    "Reshape": reshape,
    "SpaceToDepth": space_to_depth,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
