"""Reduce*, Softmax, LogSoftmax and ArgMax.

Sums of functions, and functions of sums, are written out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.ir.ops import (
    Add,
    ArgMax,
    Function,
    LogSoftmax,
    Mul,
    Reduce,
    Reduction,
    Reshape,
    Softmax,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId


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
        axes = _axes(node)
        if axes:
            _reduced(node, node.x(), kind, axes, node.out())
        else:
            node.alias(node.x())

    return rule


def l1_norm(node: Node) -> None:
    size = Unary(inputs=(node.x(),), output=node.part("size"), function=Function.ABS)
    _sum(node, node.add(size), node.out())


def sum_of_squares(node: Node) -> None:
    _sum(node, _square(node), node.out())


def l2_norm(node: Node) -> None:
    power = _sum(node, _square(node), node.part("power"))
    node.add(Unary(inputs=(power,), output=node.out(), function=Function.SQRT))


def log_of_sum(node: Node) -> None:
    total = _sum(node, node.x(), node.part("sum"))
    node.add(Unary(inputs=(total,), output=node.out(), function=Function.LOG))


def log_of_sum_of_powers(node: Node) -> None:
    """max + log(sum(exp(x - max))): no power passes 1."""
    x, axes = node.x(), _axes(node)
    if not axes:
        node.alias(x)
        return
    most = Reduce(
        inputs=(x,), output=node.part("max"), kind=Reduction.MAX, axes=axes, keepdims=True
    )
    below = node.add(Sub(inputs=(x, node.add(most)), output=node.part("below")))
    power = node.add(Unary(inputs=(below,), output=node.part("power"), function=Function.EXP))
    total = _reduced(node, power, Reduction.SUM, axes, node.part("sum"))
    log = node.add(Unary(inputs=(total,), output=node.part("log"), function=Function.LOG))
    peak = _reduced(node, x, Reduction.MAX, axes, node.part("peak"))
    node.add(Add(inputs=(log, peak), output=node.out()))


def _square(node: Node) -> TensorId:
    return node.add(Mul(inputs=(node.x(), node.x()), output=node.part("square")))


def _sum(node: Node, x: TensorId, output: TensorId) -> TensorId:
    """Along the node's axes; without any, the sum of one number."""
    axes = _axes(node)
    if axes:
        return _reduced(node, x, Reduction.SUM, axes, output)
    return node.add(Reshape(inputs=(x,), output=output, shape=node.shape()))


def _axes(node: Node) -> tuple[int, ...]:
    """The axes of a reduction; none where it does nothing."""
    rank = len(node.shape())
    given = node.integer_list(1, "axes") if node.has(1) else node.integers("axes", ())
    if not given and node.integer("noop_with_empty_axes", 0):
        return ()
    return tuple(sorted(normalized_all(node, given, rank))) or tuple(range(rank))


def _reduced(
    node: Node, x: TensorId, kind: Reduction, axes: tuple[int, ...], output: TensorId
) -> TensorId:
    keepdims = node.integer("keepdims", 1) != 0
    return node.add(Reduce(inputs=(x,), output=output, kind=kind, axes=axes, keepdims=keepdims))


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
    "ReduceL1": l1_norm,
    "ReduceL2": l2_norm,
    "ReduceLogSum": log_of_sum,
    "ReduceLogSumExp": log_of_sum_of_powers,
    "ReduceMax": reduce(Reduction.MAX),
    "ReduceMean": reduce(Reduction.MEAN),
    "ReduceMin": reduce(Reduction.MIN),
    "ReduceSum": reduce(Reduction.SUM),
    "ReduceSumSquare": sum_of_squares,
    "Softmax": softmax(Softmax),
}
