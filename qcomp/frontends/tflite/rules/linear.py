"""Convolutions, products of matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.frontends.tflite.context import Node, Rule
from qcomp.frontends.tflite.windows import is_same, window
from qcomp.ir.ops import Conv2d, Dense, MatMul, Pad, Reshape, Transpose, ZeroStuff
from qcomp.ir.tensor import TensorId

_PLAIN_WEIGHTS = 0


def conv(node: Node) -> None:
    """Filters [O, H, W, I]; where I divides the channels, in groups."""
    weight = _filters(node)
    channels, taken = _channels(node), weight[3]
    node.require(channels % taken == 0, f"filters of {taken} of {channels} channels")
    _convolution(node, node.weight(1), weight[0], weight[1:3], channels // taken)


def depthwise(node: Node) -> None:
    """Filters [1, H, W, C * M], channel c's at c * M and behind."""
    one, height, width, outputs = _filters(node)
    channels = _channels(node)
    node.require(
        one == 1 and outputs % channels == 0, f"filters {_filters(node)}", "[1, H, W, C*M]"
    )
    weight = node.weight(1, "OHWI", lambda w: w.transpose(3, 1, 2, 0))
    _convolution(node, weight, outputs, (height, width), channels)


def _channels(node: Node) -> int:
    shape = node.shape()
    node.require(len(shape) == 4, f"an operand of rank {len(shape)}", "NHWC")
    return shape[3]


def _filters(node: Node) -> tuple[int, ...]:
    node.require(node.is_constant(1), "the filters must be a constant", "a buffer of the file")
    node.require(len(node.shape(1)) == 4, f"filters of rank {len(node.shape(1))}", "rank 4")
    node.require(min(node.shape(1)) > 0, "filters without elements")
    return node.shape(1)


def _convolution(
    node: Node, weight: TensorId, outputs: int, kernel: tuple[int, ...], groups: int
) -> None:
    w = window(node, (kernel[0], kernel[1]))
    node.finish(
        Conv2d(
            inputs=(node.x(), weight, node.bias(2, outputs, weight)),
            output=node.out(),
            stride=w.stride,
            padding=w.padding,
            dilation=w.dilation,
            groups=groups,
            clamp=node.clamp(),
        )
    )


def transpose_conv(node: Node) -> None:
    """Zeros between pixels, then a convolution with filters turned around.

    Operands: the result's shape, filters [O, H, W, I], x, and maybe a bias.
    """
    outputs, *kernel, taken = _filters(node)
    x = node.shape(2)
    node.require(len(x) == 4, f"an operand of rank {len(x)}", "NHWC")
    node.require(x[3] == taken, f"filters of {taken} of {x[3]} channels")
    size = node.integer_list(0, "the shape")[1:3]
    stride = node.option("stride_h"), node.option("stride_w")
    node.require(min(stride) >= 1, f"stride {stride}", "1 or more")
    same = is_same(node)
    before, after = [], []
    for extent, k, s, out in zip(x[1:3], kernel, stride, size, strict=True):
        cut = max((extent - 1) * s + k - out, 0) // 2 if same else 0
        before.append(k - 1 - cut)
        after.append(out + k - 1 - before[-1] - ((extent - 1) * s + 1))
    negative = min(*before, *after) < 0
    node.require(not negative, f"the shape {list(size)} cuts results", "larger shapes")
    weight = node.weight(1, "turned", lambda w: w[:, ::-1, ::-1])
    stuffed = node.add(ZeroStuff(inputs=(node.x(2),), output=node.part("stuffed"), stride=stride))
    padded = node.add(
        Pad(
            inputs=(stuffed,),
            output=node.part("padded"),
            before=(0, *before, 0),
            after=(0, *after, 0),
        )
    )
    inputs = (padded, weight, node.bias(3, outputs, weight))
    node.finish(Conv2d(inputs=inputs, output=node.out(), clamp=node.clamp()))


def fully_connected(node: Node) -> None:
    """Weights [O, I]; x in rows of I, or as it is where its axes stay."""
    form = node.option("weights_format", _PLAIN_WEIGHTS)
    node.require(form == _PLAIN_WEIGHTS, "shuffled weights", "weights_format=DEFAULT")
    node.require(len(node.shape(1)) == 2, f"weights of rank {len(node.shape(1))}", "matrices")
    if not node.is_constant(1):
        _product(node, node.x(), _transposed(node, node.x(1), 2))
        return
    outputs, taken = node.shape(1)
    weight, shape = node.weight(1), node.shape()
    node.require(math.prod(shape) % taken == 0, f"weights {node.shape(1)} for {list(shape)}")
    keeps = node.option("keep_num_dims", False)
    x = node.x()
    if keeps:
        node.require(shape[-1:] == (taken,), f"weights {node.shape(1)} for {list(shape)}")
    elif shape != (math.prod(shape) // taken, taken):
        rows = (math.prod(shape) // taken, taken)
        x = node.add(Reshape(inputs=(x,), output=node.part("rows"), shape=rows))
    inputs = (x, weight, node.bias(2, outputs, weight))
    node.finish(Dense(inputs=inputs, output=node.out(), clamp=node.clamp()))


def batch_matmul(node: Node) -> None:
    a, b = node.x(0), node.x(1)
    ranks = len(node.shape(0)), len(node.shape(1))
    node.require(min(ranks) >= 2, f"operands of rank {ranks}", "rank 2 or more")
    if node.option("adj_x", False):
        a = _transposed(node, a, ranks[0])
    if node.is_constant(1) and ranks[1] == 2 and not node.option("adj_y", False):
        weight = node.weight(1, "NK", np.transpose)
        _dense(node, a, weight, node.shape(1)[1])
        return
    if node.is_constant(1) and ranks[1] == 2:
        _dense(node, a, node.weight(1), node.shape(1)[0])
        return
    if node.option("adj_y", False):
        b = _transposed(node, b, ranks[1])
    _product(node, a, b)


def _dense(node: Node, a: TensorId, weight: TensorId, outputs: int) -> None:
    inputs = (a, weight, node.bias(2, outputs, weight))
    node.finish(Dense(inputs=inputs, output=node.out()))


def _product(node: Node, a: TensorId, b: TensorId) -> None:
    node.require(not node.has(2), "a bias beside computed weights", "constant weights")
    node.finish(MatMul(inputs=(a, b), output=node.out()))


def _transposed(node: Node, x: TensorId, rank: int) -> TensorId:
    swap = (*range(rank - 2), rank - 1, rank - 2)
    return node.add(Transpose(inputs=(x,), output=node.part("transposed"), permutation=swap))


RULES: Mapping[str, Rule] = {
    "BATCH_MATMUL": batch_matmul,
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": fully_connected,
    "TRANSPOSE_CONV": transpose_conv,
}
