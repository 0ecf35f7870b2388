"""Binary ops with one number become unary ops, which are tabulated later.

    x + c = 1 x + c     x - c = 1 x - c     c - x = -1 x + c     x * c = c x     x / c = (1/c) x
    c / x = c reciprocal(x)     min(x, c), max(x, c) = clamp(x)
    a2 (a1 x + b1) + b2 = (a2 a1) x + (a2 b1 + b2)

The clamp of the binary op stays behind as a Clamp. Coefficients are formed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Add,
    Binary,
    Clamp,
    ClampRange,
    Div,
    Function,
    Maximum,
    Minimum,
    Mul,
    Op,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.simplify.no_effect import Declined, Outcome

_LARGEST = float(np.finfo(np.float32).max)

# (alpha, beta) of `x op c` and of `c op x`; None where it is not affine.
Coefficients = Callable[[float], tuple[float, float] | None]
NUMBER_BEHIND: Mapping[type[Op], Coefficients] = {
    Add: lambda c: (1.0, c),
    Sub: lambda c: (1.0, -c),
    Mul: lambda c: (c, 0.0),
    Div: lambda c: (1.0 / c, 0.0) if c != 0.0 else None,
}
NUMBER_BEFORE: Mapping[type[Op], Coefficients] = {
    Add: lambda c: (1.0, c),
    Sub: lambda c: (-1.0, c),
    Mul: lambda c: (c, 0.0),
    Div: lambda c: None,
}
EXEMPT: Exemptions = {Minimum: "is a clamp", Maximum: "is a clamp"}


def number_to_affine(graph: Graph, op: Op) -> Outcome:
    """A binary op of an activation and a constant of one element as a unary op or a clamp."""
    if not isinstance(op, Binary) or graph.is_constant(op.a) == graph.is_constant(op.b):
        return None
    number_first = graph.is_constant(op.a)
    x, constant = (op.b, op.a) if number_first else (op.a, op.b)
    if graph.type(constant).size != 1:
        return None
    if graph.type(x) != graph.type(op.output):
        return Declined(f"%{constant} adds axes to %{x}")
    number = float(graph.data(constant).reshape(-1)[0])
    if isinstance(op, Minimum | Maximum):
        return _as_clamp(op, x, number)
    if isinstance(op, Div) and number_first:
        x = _unary(graph, op, x, Function.RECIPROCAL, "reciprocal")
        return _affine(graph, op, x, (number, 0.0))
    coefficients = (NUMBER_BEFORE if number_first else NUMBER_BEHIND)[type(op)](number)
    if coefficients is None or not all(abs(c) <= _LARGEST for c in coefficients):
        return Declined(f"division by {number}")
    return _affine(graph, op, x, coefficients)


def _as_clamp(op: Minimum | Maximum, x: TensorId, number: float) -> Op:
    one_sided = ClampRange(high=number) if isinstance(op, Minimum) else ClampRange(low=number)
    return Clamp(inputs=(x,), output=op.output, clamp=one_sided.intersect(op.clamp))


def _unary(graph: Graph, op: Op, x: TensorId, function: Function, part: str) -> TensorId:
    output = graph.fresh_id(f"{op.id}.{part}")
    return graph.add_op(Unary(inputs=(x,), output=output, function=function))


def _affine(graph: Graph, op: Binary, x: TensorId, coefficients: tuple[float, float]) -> Op:
    alpha, beta = coefficients
    result = Unary(inputs=(x,), output=op.output, function=Function.AFFINE, alpha=alpha, beta=beta)
    if op.clamp.is_none:
        return result
    inner = graph.add_op(replace(result, output=graph.fresh_id(f"{op.id}.affine")))
    return Clamp(inputs=(inner,), output=op.output, clamp=op.clamp)


def merge_affine(graph: Graph, op: Op) -> Outcome:
    """Two affine functions as one; one that is the identity is dropped."""
    if not isinstance(op, Unary) or op.function is not Function.AFFINE:
        return None
    if (op.alpha, op.beta) == (1.0, 0.0):
        return op.x
    inner = graph.producer(op.x)
    if not isinstance(inner, Unary) or inner.function is not Function.AFFINE:
        return None
    alpha, beta = op.alpha * inner.alpha, op.alpha * inner.beta + op.beta
    if not (abs(alpha) <= _LARGEST and abs(beta) <= _LARGEST):
        return Declined(f"the coefficients of %{inner.id} and %{op.id} together overflow")
    return replace(op, inputs=inner.inputs, alpha=alpha, beta=beta)
