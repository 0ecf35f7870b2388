"""Reduce*, Softmax, LogSoftmax and ArgMax."""

from __future__ import annotations

import math
from collections.abc import Mapping

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.ir.ops import ArgMax, LogSoftmax, Reduce, Reduction, Reshape, Softmax


def normalized(node: Node, axis: int, rank: int) -> int:
    """A non-negative axis."""
    node.require(-rank <= axis < rank, f"axis {axis} of rank {rank}")
    return axis % rank


def normalized_all(node: Node, axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    result = tuple(normalized(node, axis, rank) for axis in axes)
    node.require(len(set(result)) == len(result), f"axes {list(axes)} repeat")
    return result


def reduce(kind: Reduction) -> Rule:
    def rule(node: Node) -> None:
        rank = len(node.shape())
        given = node.integer_list(1, "axes") if node.has(1) else node.integers("axes", ())
        if not given and node.integer("noop_with_empty_axes", 0):
            node.alias(node.x())
            return
        axes = tuple(sorted(normalized_all(node, given, rank))) or tuple(range(rank))
        keepdims = node.integer("keepdims", 1) != 0
        node.add(
            Reduce(inputs=(node.x(),), output=node.out(), kind=kind, axes=axes, keepdims=keepdims)
        )

    return rule


def softmax(cls: type[Softmax]) -> Rule:
    """Before opset 13 the softmax runs over all axes from `axis` on, taken as one."""

    def rule(node: Node) -> None:
        shape = node.shape()
        node.require(len(shape) >= 1, "a scalar input", "rank 1 or more")
        axis = normalized(node, node.integer("axis", -1 if node.opset >= 13 else 1), len(shape))
        if node.opset >= 13 or math.prod(shape[axis + 1 :]) == 1:
            node.add(cls(inputs=(node.x(),), output=node.out(), axis=axis))
            return
        flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
        x = node.add(Reshape(inputs=(node.x(),), output=node.part("flat"), shape=flat))
        y = node.add(cls(inputs=(x,), output=node.part("softmax"), axis=1))
        node.add(Reshape(inputs=(y,), output=node.out(), shape=shape))

    return rule


def argmax(node: Node) -> None:
    axis = normalized(node, node.integer("axis", 0), len(node.shape()))
    node.add(
        ArgMax(
            inputs=(node.x(),),
            output=node.out(),
            axis=axis,
            keepdims=node.integer("keepdims", 1) != 0,
            last=node.integer("select_last_index", 0) != 0,
        )
    )
    node.context.notes.append(f"{node.op_type} {node.proto.output[0]}: indices are i32, not i64")


RULES: Mapping[str, Rule] = {
    "ArgMax": argmax,
    "LogSoftmax": softmax(LogSoftmax),
    "ReduceMax": reduce(Reduction.MAX),
    "ReduceMean": reduce(Reduction.MEAN),
    "ReduceMin": reduce(Reduction.MIN),
    "ReduceSum": reduce(Reduction.SUM),
    "Softmax": softmax(Softmax),
}
