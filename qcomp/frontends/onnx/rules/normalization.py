"""Normalisation by moments of the data, written out: deviations from the mean over their root mean
square. The variance is the mean of squared deviations, as that of squares less the squared mean
cancels in few bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.rules.reduction import normalized, normalized_all
from qcomp.ir.ops import Add, Div, Function, Mul, Reduce, Reduction, Reshape, Sub, Unary
from qcomp.ir.tensor import TensorId

Axes = tuple[int, ...]
_EPSILON = 1e-5
_LEAST = 1e-9


def layer_norm(node: Node) -> None:
    """The mean and the reciprocal of the deviation are results too."""
    axes = _trailing(node)
    mean = _mean(node, node.x(), axes, "mean")
    deviation = node.add(Sub(inputs=(node.x(), mean), output=node.part("deviation")))
    root = _root(node, deviation, axes)
    y = node.add(Div(inputs=(deviation, root), output=node.part("normalized")))
    _scaled(node, y, node.x(1), node.x(2) if node.has(2) else None)
    if not node.unused(1):
        node.alias(mean, 1)
    if not node.unused(2):
        node.add(Unary(inputs=(root,), output=node.out(2), function=Function.RECIPROCAL))


def rms_norm(node: Node) -> None:
    axes = _trailing(node)
    _scaled(node, _over_root(node, node.x(), axes), node.x(1), None)


def instance_norm(node: Node) -> None:
    shape = node.shape()
    node.require(len(shape) >= 3, f"input of rank {len(shape)}", "rank 3 or more")
    axes = tuple(range(2, len(shape)))
    y = _over_root(node, _centered(node, node.x(), axes), axes)
    _scaled(node, y, _per_channel(node, 1, shape[1]), _per_channel(node, 2, shape[1]))


def group_norm(node: Node) -> None:
    shape, groups = node.shape(), node.integer("num_groups")
    node.require(
        len(shape) >= 2 and groups >= 1 and shape[1] % groups == 0,
        f"{groups} groups of {list(shape)}",
        "a divisor of the channels",
    )
    grouped = (shape[0], groups, math.prod(shape[1:]) // groups)
    x = node.add(Reshape(inputs=(node.x(),), output=node.part("grouped"), shape=grouped))
    y = _over_root(node, _centered(node, x, (2,)), (2,))
    y = node.add(Reshape(inputs=(y,), output=node.part("channels"), shape=shape))
    _scaled(node, y, _per_channel(node, 1, shape[1]), _per_channel(node, 2, shape[1]))


def mean_variance_norm(node: Node) -> None:
    """Without parameters; what is added under the root is the specification's own 1e-9."""
    axes = normalized_all(node, node.integers("axes", (0, 2, 3)), len(node.shape()))
    node.alias(_over_root(node, _centered(node, node.x(), axes), axes, _LEAST))


def _trailing(node: Node) -> Axes:
    """The axes from `axis` on."""
    rank = len(node.shape())
    return tuple(range(normalized(node, node.integer("axis", -1), rank), rank))


def _centered(node: Node, x: TensorId, axes: Axes) -> TensorId:
    mean = _mean(node, x, axes, "mean")
    return node.add(Sub(inputs=(x, mean), output=node.part("deviation")))


def _over_root(node: Node, x: TensorId, axes: Axes, epsilon: float = _EPSILON) -> TensorId:
    root = _root(node, x, axes, epsilon)
    return node.add(Div(inputs=(x, root), output=node.part("normalized")))


def _root(node: Node, x: TensorId, axes: Axes, epsilon: float = _EPSILON) -> TensorId:
    """sqrt(mean(x^2) + epsilon)."""
    square = node.add(Mul(inputs=(x, x), output=node.part("square")))
    power = _mean(node, square, axes, "power")
    lifted = Unary(
        inputs=(power,),
        output=node.part("lifted"),
        function=Function.AFFINE,
        beta=node.number("epsilon", epsilon),
    )
    root = Unary(inputs=(node.add(lifted),), output=node.part("root"), function=Function.SQRT)
    return node.add(root)


def _mean(node: Node, x: TensorId, axes: Axes, role: str) -> TensorId:
    op = Reduce(inputs=(x,), output=node.part(role), kind=Reduction.MEAN, axes=axes, keepdims=True)
    return node.add(op)


def _per_channel(node: Node, index: int, channels: int) -> TensorId:
    """A constant of one number a channel, along axis 1."""
    data = node.floats(index, ("the scale", "the bias")[index - 1])
    node.require(data.shape == (channels,), f"{list(data.shape)} parameters", f"{channels}")
    shape = (channels, *(1,) * (len(node.shape()) - 2))
    return node.weight(index, data.reshape(shape), f"channels {shape}")


def _scaled(node: Node, y: TensorId, scale: TensorId, bias: TensorId | None) -> None:
    """The node's result."""
    if bias is None:
        node.add(Mul(inputs=(y, scale), output=node.out()))
    else:
        scaled = node.add(Mul(inputs=(y, scale), output=node.part("scaled")))
        node.add(Add(inputs=(scaled, bias), output=node.out()))


RULES: Mapping[str, Rule] = {
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "MeanVarianceNormalization": mean_variance_norm,
    "RMSNormalization": rms_norm,
}
