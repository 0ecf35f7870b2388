"""Roots of means of squares, and their inverses, as exporters write them out.

    r = max(a * sqrt(v), l)                     the root, scaled, with a bound below
    v = max(a * mean(s^2) + e, l)               or a sum; or mean(x^2) - mean(x)^2
    1 / r,  c / r,  v^(-1/2)                    its inverse

Constants may stand anywhere between, and shapes may gain and lose axes of extent 1 as long as the
means end up at their rows. The same value may be computed twice: what counts is that it is the same
function of the same tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Add,
    BroadcastTo,
    Clamp,
    Div,
    Function,
    Maximum,
    Mul,
    Op,
    Reduce,
    Reduction,
    Reshape,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.same_value import same

F64 = NDArray[np.float64]
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Line:
    """max(slope * u + offset, low) of what is still to be looked at, u."""

    slope: float = 1.0
    offset: float = 0.0
    low: float = 0.0

    def of(self, slope: float, offset: float) -> Line:
        """With slope * u + offset in the place of u."""
        return replace(self, slope=self.slope * slope, offset=self.offset + self.slope * offset)

    def above(self, low: float) -> Line:
        """With max(u, low) in the place of u."""
        return replace(self, low=max(self.low, self.slope * low + self.offset))


@dataclass(frozen=True)
class Power:
    """`line` of the mean of squares over the axes, or, with `moments`, of the variance.

    rows: the tensor that broadcasts to what was squared, if its shape is that of the means.
    """

    line: Line
    squared: TensorId
    axes: Axes
    moments: bool
    rows: TensorId


@dataclass(frozen=True)
class Inverse:
    """factor / sqrt(line)."""

    factor: F64
    power: Power


@dataclass
class _Walk:
    """From a tensor back to its mean; `rows` is the lowest one that still is to broadcast."""

    graph: Graph
    rows: TensorId
    reshaped: bool = False

    def seen(self, id: TensorId) -> Op | None:
        """The op behind what only adds or drops axes of extent 1, or broadcasts."""
        while True:
            op = self.graph.producer(id)
            if isinstance(op, BroadcastTo) and not self.reshaped:
                self.rows = id = op.x
            elif isinstance(op, Reshape) and self._is_squeeze(op):
                self.reshaped, id = True, op.x
            else:
                return op

    def beside(self, x: TensorId, constant: F64) -> bool:
        """Go on with what meets a constant; False if both broadcast before axes have moved."""
        if constant.size > 1:
            if self.reshaped:
                return False
            self.rows = x
        return True

    def _is_squeeze(self, op: Reshape) -> bool:
        shapes = op.shape, self.graph.type(op.x).shape
        before, after = ([e for e in shape if e != 1] for shape in shapes)
        return before == after


def inverse_root(graph: Graph, id: TensorId) -> Inverse | None:
    walk, factor = _Walk(graph, id), np.ones(1)
    while True:
        match walk.seen(id):
            case Unary(function=Function.RECIPROCAL) as op:
                return _inverse(factor, _root(walk, op.x, Line()))
            case Unary(function=Function.POW, alpha=-0.5) as op:
                return _inverse(factor, _power(walk, op.x, Line()))
            case Unary(function=Function.AFFINE, beta=0.0) as op:
                factor, id = factor * op.alpha, op.x
            case Mul() as op if op.clamp.is_none and (split := _constant(graph, op)):
                if not walk.beside(*split):
                    return None
                factor, id = factor * split[1], split[0]
            case Div() as op if op.clamp.is_none and graph.is_constant(op.a):
                constant = graph.data(op.a).astype(np.float64)
                if not walk.beside(op.b, constant):
                    return None
                return _inverse(factor * constant, _root(walk, op.b, Line()))
            case _:
                return None


def root(graph: Graph, id: TensorId) -> Power | None:
    """The power whose root a tensor is."""
    return _root(_Walk(graph, id), id, Line())


def _inverse(factor: F64, power: Power | None) -> Inverse | None:
    return None if power is None else Inverse(factor, power)


def _root(walk: _Walk, id: TensorId, line: Line) -> Power | None:
    """line(r) = sqrt(max(slope^2 r^2, low^2)), without an offset."""
    while True:
        match walk.seen(id):
            case Clamp() as op if op.clamp.high == math.inf:
                line, id = line.above(op.clamp.low), op.x
            case Unary(function=Function.AFFINE, beta=0.0) as op if op.alpha > 0.0:
                line, id = line.of(op.alpha, 0.0), op.x
            case Maximum() as op if op.clamp.is_none and (split := _number(walk.graph, op)):
                line, id = line.above(split[1]), split[0]
            case Unary(function=Function.SQRT) as op:
                break
            case Unary(function=Function.POW, alpha=0.5) as op:
                break
            case _:
                return None
    return _power(walk, op.x, Line(line.slope**2, 0.0, line.low**2))


def _power(walk: _Walk, id: TensorId, line: Line) -> Power | None:
    """A mean of squares, or a variance, with what is added."""
    while True:
        match walk.seen(id):
            case Unary(function=Function.AFFINE) as op if op.alpha > 0.0:
                line, id = line.of(op.alpha, op.beta), op.x
            case Clamp() as op if op.clamp.high == math.inf:
                line, id = line.above(op.clamp.low), op.x
            case Add() as op if op.clamp.is_none and (split := _number(walk.graph, op)):
                line, id = line.of(1.0, split[1]), split[0]
            case Maximum() as op if op.clamp.is_none and (split := _number(walk.graph, op)):
                line, id = line.above(split[1]), split[0]
            case Sub() as op if op.clamp.is_none:
                return _variance(walk, op, line)
            case Reduce() as op:
                squared, scale = _squared(walk.graph, op.x), _mean_scale(walk.graph, op)
                if squared is None or scale is None:
                    return None
                return Power(line.of(scale, 0.0), squared, op.axes, False, walk.rows)
            case _:
                return None


def _variance(walk: _Walk, op: Sub, line: Line) -> Power | None:
    """mean(x^2) - mean(x)^2."""
    graph = walk.graph
    first, mean = graph.producer(op.a), _squared(graph, op.b)
    if not isinstance(first, Reduce) or first.kind is not Reduction.MEAN or mean is None:
        return None
    x = _squared(graph, first.x)
    if x is None or not is_mean(graph, mean, x, first.axes):
        return None
    return Power(line, x, first.axes, True, walk.rows)


def _mean_scale(graph: Graph, op: Reduce) -> float | None:
    """What a mean is multiplied by to give the reduction."""
    if op.kind is Reduction.MEAN:
        return 1.0
    if op.kind is Reduction.SUM:
        return float(math.prod(graph.type(op.x).shape[a] for a in op.axes))
    return None


def _squared(graph: Graph, id: TensorId) -> TensorId | None:
    match graph.producer(id):
        case Mul(inputs=(a, b)) as op if op.clamp.is_none and same(graph, a, b):
            return a
        case Unary(function=Function.POW, alpha=2.0) as op:
            return op.x
    return None


def is_of_rows(graph: Graph, id: TensorId, x: TensorId, axes: Axes) -> bool:
    """Whether a tensor broadcasts to x as its means over the axes do."""
    shape, own = graph.type(x).shape, graph.type(id).shape
    rows = tuple(1 if i in axes else e for i, e in enumerate(shape))
    return (1,) * (len(shape) - len(own)) + own == rows


def is_mean(graph: Graph, id: TensorId, x: TensorId, axes: Axes) -> bool:
    """Whether a tensor is the mean of x over the axes, and broadcasts to x as it does."""
    walk, scale = _Walk(graph, id), 1.0
    op = walk.seen(id)
    while isinstance(op, Unary) and op.function is Function.AFFINE and op.beta == 0.0:
        scale, op = scale * op.alpha, walk.seen(op.x)
    if not isinstance(op, Reduce) or op.axes != axes or not same(graph, op.x, x):
        return False
    own = _mean_scale(graph, op)
    is_one = own is not None and math.isclose(scale * own, 1.0, rel_tol=1e-6)
    return is_one and is_of_rows(graph, walk.rows, x, axes)


def deviation(graph: Graph, id: TensorId, axes: Axes) -> TensorId | None:
    """x of x - mean(x)."""
    op = graph.producer(id)
    if isinstance(op, Sub) and op.clamp.is_none and is_mean(graph, op.b, op.a, axes):
        return op.a
    return None


def _constant(graph: Graph, op: Mul | Add | Maximum) -> tuple[TensorId, F64] | None:
    """The operand and the constant that it meets."""
    for x, c in (op.inputs, op.inputs[::-1]):
        if graph.is_constant(c) and not graph.is_constant(x):
            return x, graph.data(c).astype(np.float64)
    return None


def _number(graph: Graph, op: Add | Maximum) -> tuple[TensorId, float] | None:
    """The same, of a constant of one number that does not broadcast."""
    split = _constant(graph, op)
    if split is None or graph.type(op.output).shape != graph.type(split[0]).shape:
        return None
    numbers = split[1].ravel()
    return (split[0], float(numbers[0])) if (numbers == numbers[0]).all() else None
