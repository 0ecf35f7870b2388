"""ONNX's channels-first activations to the IR's NHWC and back.

A rule wraps its spatial op in two transposes; the pass canonicalize_layout cancels them. One
spatial axis (N, C, L) becomes an image of height 1.
"""

from __future__ import annotations

from qcomp.frontends.onnx.context import Node
from qcomp.ir.ops import Reshape, Transpose
from qcomp.ir.tensor import TensorId

NHWC_FROM_NCHW = (0, 2, 3, 1)
NCHW_FROM_NHWC = (0, 3, 1, 2)


def require_spatial(node: Node) -> tuple[int, ...]:
    """The spatial extents of the first operand, one or two."""
    shape = node.shape()
    node.require(
        len(shape) in (3, 4), f"input of rank {len(shape)}", "one or two spatial axes (rank 3 or 4)"
    )
    return shape[2:]


def channels_last(node: Node) -> TensorId:
    """The first operand in NHWC."""
    x = node.x()
    if len(node.shape()) == 4:
        return node.add(
            Transpose(inputs=(x,), output=node.part("nhwc"), permutation=NHWC_FROM_NCHW)
        )
    n, c, length = node.shape()
    nlc = node.add(Transpose(inputs=(x,), output=node.part("nlc"), permutation=(0, 2, 1)))
    return node.add(Reshape(inputs=(nlc,), output=node.part("nhwc"), shape=(n, 1, length, c)))


def channels_first(node: Node, y: TensorId, rank: int) -> None:
    """Give NHWC back as the node's result in ONNX's layout."""
    if rank == 4:
        node.add(Transpose(inputs=(y,), output=node.out(), permutation=NCHW_FROM_NHWC))
        return
    n, _, length, c = node.graph.type(y).shape
    nlc = node.add(Reshape(inputs=(y,), output=node.part("nlc.out"), shape=(n, length, c)))
    node.add(Transpose(inputs=(nlc,), output=node.out(), permutation=(0, 2, 1)))
