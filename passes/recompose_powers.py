"""Make the logarithm of a sum of squares one op: log(max(a * a + b * b + added, least)).

The power of a spectrum ranges over many orders of magnitude, which no integers of one scale hold;
its logarithm does not. As one op, nothing is rounded between the operands and the logarithm. A
bound below (a clamp), a number added, or both, keep the logarithm finite; without them there is
nothing to keep it so, and the ops stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, Clamp, Function, LogPower, Mul, Op, Unary
from qcomp.ir.tensor import TensorId
from qcomp.passes.events import PassLog


@dataclass(frozen=True)
class RecomposePowers:
    """See the module."""

    name: ClassVar[str] = "recompose-powers"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if isinstance(op, Unary) and op.function is Function.LOG and not graph.is_kept(op):
                found = _recomposed(graph, op)
                if isinstance(found, LogPower):
                    graph.replace_op(found)
                    log.did(f"{op.id}: the logarithm of a sum of squares", op=op.id)
                elif found is not None:
                    log.skipped(op.id, found)


def _recomposed(graph: Graph, op: Unary) -> LogPower | str | None:
    """The op; or why there is none though there are squares; or None without squares."""
    added, least = 0.0, 0.0
    x = op.x
    while (inner := _alone(graph, x)) is not None:
        bound = _bound(graph, inner)
        if bound is None:
            break
        x, low, plus = bound
        if added and low > -np.inf:  # a bound before what was added
            return None
        least, added = max(least, low), added + plus
    inner = _alone(graph, x)
    if not isinstance(inner, Add) or not inner.clamp.is_none:
        return None
    a, b = _squared(graph, inner.a), _squared(graph, inner.b)
    if a is None or b is None or graph.type(a) != graph.type(b):
        return None
    if max(least, added) <= 0:
        return "nothing keeps the sum of squares above zero"
    least = max(least, added)
    return LogPower(inputs=(a, b), output=op.output, added=added, least=least)


def _alone(graph: Graph, id: TensorId) -> Op | None:
    """The op that makes a tensor which only one op reads."""
    return graph.producer(id) if graph.sole_consumer(id) is not None else None


def _bound(graph: Graph, op: Op) -> tuple[TensorId, float, float] | None:
    """(operand, lower bound, number added) of a clamp from below or a number added."""
    match op:
        case Clamp() if op.clamp.high == np.inf:
            return op.x, op.clamp.low, 0.0
        case Unary(function=Function.AFFINE) if op.alpha == 1.0 and op.beta > 0:
            return op.x, -np.inf, op.beta
        case Add() if op.clamp.is_none:
            for x, k in ((op.a, op.b), (op.b, op.a)):
                data = graph.tensor(k).data
                if data is not None and data.size == 1 and float(data.ravel()[0]) > 0:
                    return x, -np.inf, float(data.ravel()[0])
    return None


def _squared(graph: Graph, id: TensorId) -> TensorId | None:
    """x of x * x or x ** 2, which nothing else reads."""
    match _alone(graph, id):
        case Mul(inputs=(a, b)) as op if a == b and op.clamp.is_none:
            return a
        case Unary(function=Function.POW, alpha=2.0) as op:
            return op.x
    return None
