"""Ops that give back one of their operands, and what remains of them (a clamp, a reshape)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Add,
    Binary,
    BroadcastTo,
    Clamp,
    Concat,
    Div,
    Function,
    Gather,
    Maximum,
    Minimum,
    Mul,
    Op,
    Pad,
    Reduce,
    Reshape,
    Resize2d,
    Slice,
    Sub,
    Tile,
    Transpose,
    Unary,
)
from qcomp.ir.tensor import TensorId


@dataclass(frozen=True)
class Declined:
    """Why an op that looks superfluous stays."""

    reason: str


# What replaces an op: an op with the same id, the tensor that it equals, a reason, or nothing.
Outcome = Op | TensorId | Declined | None

# The number that does nothing as the second operand; for Add and Mul, as the first too.
NEUTRAL: Mapping[type[Op], float] = {Add: 0.0, Sub: 0.0, Mul: 1.0, Div: 1.0}
EXEMPT: Exemptions = {
    Minimum: "no number leaves every x as it is",
    Maximum: "no number leaves every x as it is",
}


def drop_without_effect(graph: Graph, op: Op) -> Outcome:
    """The operand of a movement or clamp that changes nothing."""
    return op.inputs[0] if _changes_nothing(graph, op) else None


def _changes_nothing(graph: Graph, op: Op) -> bool:
    shape = graph.type(op.inputs[0]).shape
    match op:
        case Reshape() | BroadcastTo():
            return op.shape == shape
        case Transpose():
            return op.permutation == tuple(range(len(shape)))
        case Slice():
            return op.sizes == shape and min(op.steps, default=1) > 0
        case Pad():
            return not any((*op.before, *op.after))
        case Tile():
            return math.prod(op.repeats) == 1
        case Concat():
            return len(op.inputs) == 1
        case Clamp():
            return op.clamp.is_none
        case Gather():
            return np.array_equal(graph.data(op.indices), np.arange(shape[op.axis]))
        case Resize2d():
            return op.size == shape[1:3] and op.scale == (1.0, 1.0)
    return False


def drop_neutral_operand(graph: Graph, op: Op) -> Outcome:
    """x + 0, x - 0, x * 1 and x / 1, for constants of any shape that broadcasts to x."""
    neutral = NEUTRAL.get(type(op))
    if neutral is None or not isinstance(op, Binary):
        return None
    orders = [(op.a, op.b), (op.b, op.a)] if isinstance(op, Add | Mul) else [(op.a, op.b)]
    for x, other in orders:
        if not graph.is_constant(other) or graph.is_constant(x):
            continue
        if not np.all(graph.data(other) == neutral):
            continue
        if graph.type(x) != graph.type(op.output):
            return Declined(f"%{other} is neutral, but broadcasts %{x} to {graph.type(op.output)}")
        return x if op.clamp.is_none else Clamp(inputs=(x,), output=op.output, clamp=op.clamp)
    return None


def reduce_of_unit_axes(graph: Graph, op: Op) -> Outcome:
    """Mean, sum, maximum and minimum of one element are that element."""
    if not isinstance(op, Reduce):
        return None
    shape = graph.type(op.x).shape
    if any(shape[axis] != 1 for axis in op.axes):
        return None
    return Reshape(inputs=op.inputs, output=op.output, shape=graph.type(op.output).shape)


def simplify_power(graph: Graph, op: Op) -> Outcome:
    """x ** 1 is x, x ** 0.5 the square root, x ** -1 the reciprocal; x ** 2 is best as it is."""
    if not isinstance(op, Unary) or op.function is not Function.POW:
        return None
    if op.alpha == 1.0:
        return op.x
    function = {0.5: Function.SQRT, -1.0: Function.RECIPROCAL}.get(op.alpha)
    return Unary(inputs=op.inputs, output=op.output, function=function) if function else None
