"""Normalisations as exporters write them out, found from the op that divides by the root.

    d / r,   d * (c / r)   and   x * q - mean(x) * q + b   with q = c / r

r is the root of a mean of squares (rooted_power.py), d = x - mean(x) or x itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, Div, Function, Mul, Op, Sub, Unary
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.rooted_power import (
    F64,
    Axes,
    Power,
    deviation,
    inverse_root,
    is_mean,
    is_of_rows,
    root,
)
from qcomp.passes.lib.same_value import same


@dataclass(frozen=True)
class NormalForm:
    """gamma * d / sqrt(max(mean(d^2) + epsilon, least)) + beta; d = x - mean(x) if `centered`."""

    x: TensorId
    axes: Axes
    centered: bool
    epsilon: float
    least: float
    gamma: F64
    beta: F64


FormOrReason = NormalForm | str | None


def normal_form(graph: Graph, op: Op) -> FormOrReason:
    """What the op is; or why it is none though it divides by such a root; or None."""
    if isinstance(op, Add | Sub):
        return _distributed(graph, op)
    if isinstance(op, Div):
        power = root(graph, op.b)
        return None if power is None else _divided(graph, op.a, power, op)
    if isinstance(op, Mul):
        for d, factor in (op.inputs, op.inputs[::-1]):
            inverse = inverse_root(graph, factor)
            if inverse is not None:
                return _times(_divided(graph, d, inverse.power, op), inverse.factor)
    return None


def _times(form: FormOrReason, factor: F64) -> FormOrReason:
    return replace(form, gamma=form.gamma * factor) if isinstance(form, NormalForm) else form


def _divided(graph: Graph, d: TensorId, power: Power, op: Op) -> FormOrReason:
    """d over the root of a power."""
    x = deviation(graph, d, power.axes)
    divided = x if power.moments else d
    if divided is None or not same(graph, divided, power.squared):
        what = "a deviation from the mean" if power.moments else "what was squared"
        return f"what is divided by the root of %{power.squared}'s squares is not {what}"
    return _form(graph, d if x is None else x, power, centered=x is not None)


def _form(graph: Graph, x: TensorId, power: Power, *, centered: bool) -> NormalForm | str:
    slope, line = power.line.slope, power.line
    if line.offset < 0.0:
        return f"{line.offset:g} under the root is negative"
    if not is_of_rows(graph, power.rows, x, power.axes):
        return f"%{power.rows} does not broadcast to %{x} as its means over {power.axes} do"
    return NormalForm(
        x=x,
        axes=power.axes,
        centered=centered,
        epsilon=line.offset / slope,
        least=line.low / slope,
        gamma=np.array([1.0 / math.sqrt(slope)]),
        beta=np.zeros(1),
    )


def _distributed(graph: Graph, op: Add | Sub) -> FormOrReason:
    """x * q + (b - mean * q), as a batch normalisation with its own moments is computed."""
    if not op.clamp.is_none:
        return None
    products: list[tuple[float, TensorId]] = []
    beta = sum(_constants(graph, op, 1.0, products), np.zeros(1))
    for first, second in (products, products[::-1]) if len(products) == 2 else ():
        if (first[0], second[0]) == (1.0, -1.0):
            form = _of_products(graph, first[1], second[1], op)
            if form is not None:
                return replace(form, beta=beta) if isinstance(form, NormalForm) else form
    return None


def _of_products(graph: Graph, first: TensorId, second: TensorId, op: Op) -> FormOrReason:
    """x * q - mean(x) * q."""
    one, other = graph.producer(first), graph.producer(second)
    if not isinstance(one, Mul) or not isinstance(other, Mul):
        return None
    if not (one.clamp.is_none and other.clamp.is_none):
        return None
    for x, q in (one.inputs, one.inputs[::-1]):
        inverse = inverse_root(graph, q)
        if inverse is None:
            continue
        power = inverse.power
        spread = power.squared if power.moments else deviation(graph, power.squared, power.axes)
        if spread is None or not same(graph, spread, x):
            continue
        for mean, again in (other.inputs, other.inputs[::-1]):
            if same(graph, q, again) and is_mean(graph, mean, x, power.axes):
                return _times(_form(graph, x, power, centered=True), inverse.factor)
    return None


def _constants(
    graph: Graph, op: Op, sign: float, others: list[tuple[float, TensorId]]
) -> Iterator[F64]:
    """The constants of a sum of sums that nothing else reads; `others` are its other terms."""
    match op:
        case Unary():
            yield np.array([sign * op.beta])
            terms = [(op.x, sign * op.alpha)]
        case Sub():
            terms = [(op.a, sign), (op.b, -sign)]
        case _:
            terms = [(t, sign) for t in op.inputs]
    for t, s in terms:
        inner = graph.producer(t)
        if graph.is_constant(t):
            yield s * graph.data(t).astype(np.float64)
        elif inner is not None and graph.sole_consumer(t) is not None and _is_sum(inner):
            yield from _constants(graph, inner, s, others)
        else:
            others.append((s, t))


def _is_sum(op: Op) -> bool:
    if isinstance(op, Unary):
        return op.function is Function.AFFINE
    return isinstance(op, Add | Sub) and op.clamp.is_none
