"""The masks of an attention as its op takes them: the terms of a model put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, Compare, Function, Relation, Unary
from qcomp.ir.ops.attention import EXCLUDES, Mask, Unattended
from qcomp.ir.saturation import NOT_AT_ALL
from qcomp.ir.tensor import Array, TensorId
from qcomp.passes.lib.attention_scores import Term

Flags = NDArray[np.bool_]

_WHOLE = 1e-3  # how near to a whole number counts as one


@dataclass
class Combined:
    """Fields of Attention; at most one operand is added, and constants are one operand of each
    kind.
    """

    ahead: int
    unattended: Unattended = Unattended.MEAN
    operands: list[TensorId] = field(default_factory=list)
    kind_list: list[Mask] = field(default_factory=list)

    @property
    def kinds(self) -> tuple[Mask, ...]:
        return tuple(self.kind_list)

    def put(self, operand: TensorId, kind: Mask) -> None:
        self.operands.append(operand)
        self.kind_list.append(kind)


def combined(graph: Graph, terms: Sequence[Term], scores: tuple[int, ...], name: str) -> Combined:
    """`scores` is their shape, [B, H, S, T]."""
    found = Combined(ahead=scores[3] - 1)
    if any(_is_infinite(graph, term) for term in terms):
        found.unattended = Unattended.ZERO
    _put_constants(graph, found, [t for t in terms if graph.is_constant(t.operand)], scores, name)
    added: TensorId | None = None
    for term in terms:
        if graph.is_constant(term.operand):
            continue
        if term.kind is not Mask.ADDED:
            found.put(term.operand, term.kind)
            continue
        if (condition := _condition(graph, term, name)) is not None:
            found.put(condition, Mask.ALLOWED)
            continue
        part = _scaled(graph, term, name)
        added = part if added is None else _sum(graph, added, part, name)
    if added is not None:
        found.put(added, Mask.ADDED)
    return found


def _is_infinite(graph: Graph, term: Term) -> bool:
    """Whether it excludes with -inf, where floats have no result for a row of it."""
    if term.kind is not Mask.ADDED:
        return math.isclose(term.fill, NOT_AT_ALL * term.factor, rel_tol=1e-6)
    data = graph.tensor(term.operand).data
    return data is not None and bool((data == NOT_AT_ALL).any())


def _condition(graph: Graph, term: Term, name: str) -> TensorId | None:
    """Of a mask alpha * x + beta that is 0 at a whole number and excludes at the next one: whether
    x is on the side that does not exclude, half a step from there.

    What is computed in floats as 1e9 * (1 - x) would exclude all keys, were 1 not exactly a number
    of steps of x.
    """
    op = graph.producer(term.operand)
    if not isinstance(op, Unary) or op.function is not Function.AFFINE or graph.is_kept(op):
        return None
    if abs(op.alpha) * term.factor < -EXCLUDES:
        return None
    zero = -op.beta / op.alpha
    if abs(zero - round(zero)) > _WHOLE:
        return None
    side = math.copysign(0.5, op.alpha)
    bound = graph.add_constant(f"{name}.bound", np.array(round(zero) - side, np.float32))
    return graph.add_op(
        Compare(
            inputs=(bound, op.x) if side > 0 else (op.x, bound),
            output=graph.fresh_id(f"{name}.allowed"),
            relation=Relation.LESS,
        )
    )


def _scaled(graph: Graph, term: Term, name: str) -> TensorId:
    if term.factor == 1.0:
        return term.operand
    return graph.add_op(
        Unary(
            inputs=(term.operand,),
            output=graph.fresh_id(f"{name}.scaled"),
            function=Function.AFFINE,
            alpha=term.factor,
        )
    )


def _sum(graph: Graph, a: TensorId, b: TensorId, name: str) -> TensorId:
    return graph.add_op(Add(inputs=(a, b), output=graph.fresh_id(f"{name}.sum")))


def _put_constants(
    graph: Graph, found: Combined, terms: Sequence[Term], scores: tuple[int, ...], name: str
) -> None:
    """All constants: what is added where nothing is excluded, and which keys are allowed."""
    added, allowed = np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1), np.bool_)
    for term in terms:
        data = np.asarray(graph.data(term.operand))
        values = data.reshape((1,) * (4 - data.ndim) + data.shape).astype(np.float64)
        if term.kind is Mask.ADDED:
            values = values * term.factor
            added = added + np.maximum(values, EXCLUDES)
            allowed = allowed & (values > EXCLUDES)
        else:
            allowed = allowed & ((values != 0) == (term.kind is Mask.ALLOWED))
    added = np.where(allowed, added, 0.0)
    if not allowed.all():
        ahead = _ahead(allowed, scores)
        if ahead is not None:
            found.ahead = ahead
        else:
            constant = _least(allowed).astype(np.float32)
            found.put(graph.add_constant(f"{name}.allowed", constant), Mask.ALLOWED)
    if added.any():
        constant = _least(added).astype(np.float32)
        found.put(graph.add_constant(f"{name}.added", constant), Mask.ADDED)


def _least(data: Array) -> Array:
    """The array without the axes along which it repeats itself."""
    for axis in range(data.ndim):
        first = np.take(data, [0], axis)
        if (data == first).all():
            data = first
    return data


def _ahead(allowed: Flags, scores: tuple[int, ...]) -> int | None:
    """How far beyond its own position each query sees, if that and no more is what is allowed."""
    matrix = _least(allowed)
    if matrix.shape[:2] != (1, 1):
        return None
    queries, keys = scores[2:]
    counts = np.broadcast_to(matrix[0, 0], (queries, keys)).sum(axis=1)
    partial = np.flatnonzero(counts < keys)
    ahead = int(counts[partial[-1]]) - 1 - int(partial[-1])
    position = np.arange(queries)[:, None] + ahead
    same = (np.arange(keys) <= position) == np.broadcast_to(matrix[0, 0], (queries, keys))
    return ahead if bool(same.all()) else None
