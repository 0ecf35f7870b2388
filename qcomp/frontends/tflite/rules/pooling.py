"""Pooling windows and reductions over axes."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.frontends.tflite.axes import distinct_axes
from qcomp.frontends.tflite.context import Node, Rule
from qcomp.frontends.tflite.windows import window
from qcomp.ir.ops import (
    NO_CLAMP,
    AveragePool2d,
    Clamp,
    Function,
    LogSoftmax,
    MaxPool2d,
    Op,
    Reduce,
    Reduction,
    Reshape,
    Softmax,
    Unary,
)

_MAX_WINDOW = 1 << 20


def max_pool(node: Node) -> None:
    _pool(node, MaxPool2d)


def average_pool(node: Node) -> None:
    """Positions outside of the image do not count."""
    _pool(node, AveragePool2d)


def _pool(node: Node, kind: type[MaxPool2d] | type[AveragePool2d]) -> None:
    kernel = node.option("filter_height"), node.option("filter_width")
    w = window(node, kernel, dilated=False)
    positions = kernel[0] * kernel[1]
    node.require(positions <= _MAX_WINDOW, f"{positions} positions", f"up to {_MAX_WINDOW}")
    clamp = node.clamp()
    plain = clamp == NO_CLAMP
    pool = kind(
        inputs=(node.x(),),
        output=node.out() if plain else node.part("pool"),
        kernel=kernel,
        stride=w.stride,
        padding=w.padding,
    )
    if plain:
        node.finish(pool)
    else:
        node.finish(Clamp(inputs=(node.add(pool),), output=node.out(), clamp=clamp))


def _reducing(kind: Reduction) -> Rule:
    def rule(node: Node) -> None:
        axes = distinct_axes(node, 1, len(node.shape()))
        keeps = node.option("keep_dims", False)
        if not axes:
            node.finish(Reshape(inputs=(node.x(),), output=node.out(), shape=node.shape()))
            return
        node.finish(
            Reduce(inputs=(node.x(),), output=node.out(), kind=kind, axes=axes, keepdims=keeps)
        )

    return rule


def softmax(node: Node) -> None:
    beta = node.option("beta")
    x = node.x()
    if beta != 1.0:
        scaled = Unary(
            inputs=(x,), output=node.part("scaled"), function=Function.AFFINE, alpha=float(beta)
        )
        x = node.add(scaled)
    node.finish(Softmax(inputs=(x,), output=node.out(), axis=_last(node)))


def log_softmax(node: Node) -> None:
    op: Op = LogSoftmax(inputs=(node.x(),), output=node.out(), axis=_last(node))
    node.finish(op)


def _last(node: Node) -> int:
    rank = len(node.shape())
    node.require(rank >= 1, "a scalar operand", "rank 1 or more")
    return rank - 1


RULES: Mapping[str, Rule] = {
    "AVERAGE_POOL_2D": average_pool,
    "LOG_SOFTMAX": log_softmax,
    "MAX_POOL_2D": max_pool,
    "MEAN": _reducing(Reduction.MEAN),
    "REDUCE_MAX": _reducing(Reduction.MAX),
    "REDUCE_MIN": _reducing(Reduction.MIN),
    "SOFTMAX": softmax,
    "SUM": _reducing(Reduction.SUM),
}
