"""Normalisation by the moments of groups of values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.rules.reduction import normalized, normalized_all
from qcomp.ir.ops import Add, Function, Mul, Normalize, Reduce, Reduction, Reshape, Sub, Unary
from qcomp.ir.tensor import Array, TensorId

Axes = tuple[int, ...]
_EPSILON = 1e-5
_LEAST = 1e-9


def layer_norm(node: Node) -> None:
    """The mean and the reciprocal of the deviation are results too."""
    axes = _trailing(node)
    _normalized(node, axes, centered=True)
    if not node.unused(1):
        node.alias(_mean(node, node.x(), axes, "mean"), 1)
    if not node.unused(2):
        _inverse_deviation(node, axes)


def rms_norm(node: Node) -> None:
    _normalized(node, _trailing(node), centered=False)


def instance_norm(node: Node) -> None:
    shape = node.shape()
    node.require(len(shape) >= 3, f"input of rank {len(shape)}", "rank 3 or more")
    gamma, beta = (_per_channel(node, i, (shape[1],), len(shape)) for i in (1, 2))
    axes = tuple(range(2, len(shape)))
    node.add(_normalize(node, node.x(), gamma, beta, axes, node.out()))


def group_norm(node: Node) -> None:
    """Parameters are those of channels; before opset 21 they may be those of groups."""
    shape, groups = node.shape(), node.integer("num_groups")
    node.require(
        len(shape) >= 2 and groups >= 1 and shape[1] % groups == 0,
        f"{groups} groups of {list(shape)}",
        "a divisor of the channels",
    )
    grouped = (shape[0], groups, shape[1] // groups, *shape[2:])
    sizes = (shape[1], groups) if node.opset < 21 else (shape[1],)
    gamma, beta = (_per_channel(node, i, sizes, len(grouped), groups) for i in (1, 2))
    x = node.add(Reshape(inputs=(node.x(),), output=node.part("grouped"), shape=grouped))
    axes = tuple(range(2, len(grouped)))
    y = node.add(_normalize(node, x, gamma, beta, axes, node.part("normalized")))
    node.add(Reshape(inputs=(y,), output=node.out(), shape=shape))


def mean_variance_norm(node: Node) -> None:
    """Without parameters; what is added under the root is the specification's own 1e-9."""
    axes = normalized_all(node, node.integers("axes", (0, 2, 3)), len(node.shape()))
    gamma, beta = _without_effect(node)
    axes = tuple(sorted(axes))
    node.add(_normalize(node, node.x(), gamma, beta, axes, node.out(), _LEAST))


def lp_norm(node: Node) -> None:
    """x / sqrt(sum(x^2)): over the root of the mean, with a gamma; of zeros, zeros."""
    p = node.integer("p", 2)
    node.require(p == 2, f"p={p}", "p=2")
    axis = normalized(node, node.integer("axis", -1), len(node.shape()))
    gamma = node.new_constant("gamma", np.array([node.shape()[axis] ** -0.5], np.float32))
    beta = node.new_constant("beta", np.zeros(1, np.float32))
    op = Normalize(
        inputs=(node.x(), gamma, beta), output=node.out(), axes=(axis,), centered=False, epsilon=0.0
    )
    node.add(op)


def _normalize(
    node: Node,
    x: TensorId,
    gamma: TensorId,
    beta: TensorId,
    axes: Axes,
    output: TensorId,
    epsilon: float = _EPSILON,
    *,
    centered: bool = True,
) -> Normalize:
    epsilon = node.number("epsilon", epsilon)
    node.require(epsilon >= 0.0, f"epsilon={epsilon:g}", "0 or more")
    return Normalize(
        inputs=(x, gamma, beta), output=output, axes=axes, centered=centered, epsilon=epsilon
    )


def _normalized(node: Node, axes: Axes, *, centered: bool) -> None:
    """The node's result; parameters that are no constants are multiplied and added behind."""
    no_gamma, no_beta = _without_effect(node)
    given = [i for i in (1, 2) if node.has(i) and (i == 1 or centered)]
    if all(node.is_constant(i) for i in given):
        gamma = node.x(1)
        beta = node.x(2) if 2 in given else no_beta
        node.add(_normalize(node, node.x(), gamma, beta, axes, node.out(), centered=centered))
        return
    y = _normalize(
        node, node.x(), no_gamma, no_beta, axes, node.part("normalized"), centered=centered
    )
    output = node.part("scaled") if 2 in given else node.out()
    scaled = node.add(Mul(inputs=(node.add(y), node.x(1)), output=output))
    if 2 in given:
        node.add(Add(inputs=(scaled, node.x(2)), output=node.out()))


def _without_effect(node: Node) -> tuple[TensorId, TensorId]:
    return (
        node.new_constant("gamma", np.ones(1, np.float32)),
        node.new_constant("beta", np.zeros(1, np.float32)),
    )


def _trailing(node: Node) -> Axes:
    """The axes from `axis` on."""
    rank = len(node.shape())
    return tuple(range(normalized(node, node.integer("axis", -1), rank), rank))


def _mean(node: Node, x: TensorId, axes: Axes, role: str) -> TensorId:
    op = Reduce(inputs=(x,), output=node.part(role), kind=Reduction.MEAN, axes=axes, keepdims=True)
    return node.add(op)


def _inverse_deviation(node: Node, axes: Axes) -> None:
    """1 / sqrt(mean((x - mean)^2) + epsilon), the third result of a layer normalisation."""
    mean = _mean(node, node.x(), axes, "mean")
    deviation = node.add(Sub(inputs=(node.x(), mean), output=node.part("deviation")))
    square = node.add(Mul(inputs=(deviation, deviation), output=node.part("square")))
    power = _mean(node, square, axes, "power")
    lifted = Unary(
        inputs=(power,),
        output=node.part("lifted"),
        function=Function.AFFINE,
        beta=node.number("epsilon", _EPSILON),
    )
    root = Unary(inputs=(node.add(lifted),), output=node.part("root"), function=Function.SQRT)
    node.add(Unary(inputs=(node.add(root),), output=node.out(2), function=Function.RECIPROCAL))


def _per_channel(
    node: Node, index: int, sizes: tuple[int, ...], rank: int, groups: int | None = None
) -> TensorId:
    """A constant of one number a channel, along axis 1, or along the axes (groups, of a group)."""
    data: Array = node.floats(index, ("the scale", "the bias")[index - 1])
    fits = data.ndim == 1 and data.size in sizes
    accepted = " or ".join(map(str, dict.fromkeys(sizes)))
    node.require(fits, f"{list(data.shape)} parameters", accepted)
    split = (data.size,) if groups is None else (groups, data.size // groups)
    shape = (*split, *(1,) * (rank - 1 - len(split)))
    return node.weight(index, data.reshape(shape), f"channels {shape}")


RULES: Mapping[str, Rule] = {
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LpNormalization": lp_norm,
    "MeanVarianceNormalization": mean_variance_norm,
    "RMSNormalization": rms_norm,
}
