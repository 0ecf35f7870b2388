"""Comparisons, logic on their results, and Where. Truth values are floats of 0 and 1 here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.ir.ops import (
    BroadcastTo,
    Compare,
    Function,
    Maximum,
    Minimum,
    Relation,
    Select,
    Unary,
)
from qcomp.ir.ops.base import broadcast_shapes
from qcomp.ir.tensor import TensorId


def less(relation: Relation) -> Rule:
    """`a relation b`."""

    def rule(node: Node) -> None:
        node.add(Compare(inputs=(node.x(0), node.x(1)), output=node.out(), relation=relation))

    return rule


def greater(relation: Relation) -> Rule:
    """`b relation a`."""

    def rule(node: Node) -> None:
        node.add(Compare(inputs=(node.x(1), node.x(0)), output=node.out(), relation=relation))

    return rule


def negated(node: Node, x: TensorId, output: TensorId) -> TensorId:
    """1 - x."""
    op = Unary(inputs=(x,), output=output, function=Function.AFFINE, alpha=-1.0, beta=1.0)
    return node.add(op)


def differs(node: Node, a: TensorId, b: TensorId) -> TensorId:
    """The node's result: 1 where two values are not equal."""
    equal = Compare(inputs=(a, b), output=node.part("equal"), relation=Relation.EQUAL)
    return negated(node, node.add(equal), node.out())


def logical_and(node: Node) -> None:
    node.add(Minimum(inputs=(node.x(0), node.x(1)), output=node.out()))


def logical_or(node: Node) -> None:
    node.add(Maximum(inputs=(node.x(0), node.x(1)), output=node.out()))


def logical_xor(node: Node) -> None:
    differs(node, node.x(0), node.x(1))


def logical_not(node: Node) -> None:
    negated(node, node.x(), node.out())


def where(node: Node) -> None:
    """A condition that is the same everywhere takes one operand as it is."""
    shape = broadcast_shapes([node.shape(i) for i in range(3)])
    if node.is_constant(0):
        condition = node.constant(0, "the condition") != 0
        if condition.all() or not condition.any():
            _broadcast(node, node.x(1 if condition.all() else 2), shape)
            return
        c = node.weight(0, condition.astype(np.float32), "condition")
    else:
        c = node.x(0)
    node.add(Select(inputs=(c, node.x(1), node.x(2)), output=node.out()))


def _broadcast(node: Node, x: TensorId, shape: tuple[int, ...]) -> None:
    if node.graph.type(x).shape == shape:
        node.alias(x)
    else:
        node.add(BroadcastTo(inputs=(x,), output=node.out(), shape=shape))


RULES: Mapping[str, Rule] = {
    "And": logical_and,
    "Equal": less(Relation.EQUAL),
    "Greater": greater(Relation.LESS),
    "GreaterOrEqual": greater(Relation.LESS_OR_EQUAL),
    "Less": less(Relation.LESS),
    "LessOrEqual": less(Relation.LESS_OR_EQUAL),
    "Not": logical_not,
    "Or": logical_or,
    "Where": where,
    "Xor": logical_xor,
}
