"""The scores of an attention, from the softmax back to the product of q and k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, BroadcastTo, Clamp, Function, MatMul, Op, Select, Sub, Unary
from qcomp.ir.ops.attention import EXCLUDES, Mask
from qcomp.ir.tensor import TensorId


@dataclass(frozen=True)
class Term:
    """A mask as it stands in the model: what an operand does to the scores, times a factor.

    fill: what a choice puts in the place of excluded scores, times the factor.
    """

    operand: TensorId
    kind: Mask
    factor: float = 1.0
    fill: float = -math.inf


@dataclass(frozen=True)
class Scores:
    """scale * q k plus the terms; k as the product reads it, [..., D, T]."""

    q: TensorId
    k: TensorId
    scale: float
    terms: tuple[Term, ...] = ()

    def scaled(self, factor: float) -> Scores:
        terms = tuple(
            replace(t, factor=t.factor * factor, fill=t.fill * factor) for t in self.terms
        )
        return replace(self, scale=self.scale * factor, terms=terms)

    def masked(self, term: Term) -> Scores:
        return replace(self, terms=(*self.terms, term))


def alone(graph: Graph, id: TensorId) -> Op | None:
    """The op that makes a tensor which only one op reads, and that becomes integers."""
    op = graph.producer(id)
    return op if op and graph.sole_consumer(id) and not graph.is_kept(op) else None


def scores_of(graph: Graph, id: TensorId) -> Scores | None:
    """What a softmax reads, or None where it is no product with masks."""
    match alone(graph, id):
        case MatMul(inputs=(q, k)):
            return Scores(q, k, 1.0)
        case Unary(function=Function.AFFINE, alpha=alpha, inputs=(x,)) if alpha > 0:
            found = scores_of(graph, x)  # beta is the same for all keys
            return found and found.scaled(alpha)
        case Clamp(clamp=clamp, inputs=(x,)) if clamp.high == math.inf and clamp.low <= EXCLUDES:
            return scores_of(graph, x)
        case Add(clamp=clamp, inputs=(a, b)) if clamp.high == math.inf and clamp.low <= EXCLUDES:
            return _sum(graph, a, b) or _sum(graph, b, a)
        case Sub(clamp=clamp, inputs=(a, b)) if clamp.is_none:
            found = scores_of(graph, a) if graph.is_constant(b) else None
            return found and found.masked(Term(b, Mask.ADDED, -1.0))
        case Select(inputs=(condition, a, b)):
            return _chosen(graph, condition, a, b, Mask.ALLOWED) or _chosen(
                graph, condition, b, a, Mask.EXCLUDED
            )
    return None


def _sum(graph: Graph, scores: TensorId, mask: TensorId) -> Scores | None:
    found = None if graph.is_constant(scores) else scores_of(graph, scores)
    if found is None:
        return None
    for term in added_terms(graph, mask):
        found = found.masked(term)
    return found


def added_terms(graph: Graph, mask: TensorId) -> Sequence[Term]:
    """Of a mask that is added: its parts, and conditions where it is 0 or excludes."""
    match graph.producer(mask):
        case BroadcastTo(inputs=(x,)):  # a mask broadcasts by itself
            return added_terms(graph, x)
        case Add(clamp=clamp, inputs=(a, b)) if clamp.is_none:
            return [*added_terms(graph, a), *added_terms(graph, b)]
        case Select(inputs=(condition, a, b)):
            for kept, gone, kind in ((a, b, Mask.ALLOWED), (b, a, Mask.EXCLUDED)):
                is_zero = _number(graph, kept) == 0.0 or (kept == condition and kept == b)
                if is_zero and (fill := _fill(graph, gone)) is not None:
                    return [Term(_before_copies(graph, condition), kind, fill=fill)]
    return [Term(mask, Mask.ADDED)]


def _before_copies(graph: Graph, id: TensorId) -> TensorId:
    producer = graph.producer(id)
    return _before_copies(graph, producer.x) if isinstance(producer, BroadcastTo) else id


def _chosen(
    graph: Graph, condition: TensorId, scores: TensorId, other: TensorId, kind: Mask
) -> Scores | None:
    fill = _fill(graph, other)
    found = None if fill is None or graph.is_constant(scores) else scores_of(graph, scores)
    return found and found.masked(
        Term(_before_copies(graph, condition), kind, fill=fill or -math.inf)
    )


def _fill(graph: Graph, id: TensorId) -> float | None:
    """The number of a constant that excludes wherever it is put."""
    number = _number(graph, id)
    return number if number is not None and number <= EXCLUDES else None


def _number(graph: Graph, id: TensorId) -> float | None:
    """Of a constant that is one number everywhere."""
    data = graph.tensor(id).data
    if data is None or data.size == 0 or not (data == data.flat[0]).all():
        return None
    return float(np.asarray(data).flat[0])


def unscaled(graph: Graph, id: TensorId) -> tuple[TensorId, float]:
    """An operand of a product without the factor that it is multiplied by, and that factor."""
    match graph.producer(id):
        case Unary(function=Function.AFFINE, alpha=alpha, beta=0.0, inputs=(x,)) as op if (
            alpha > 0 and not graph.is_kept(op)
        ):
            inner, factor = unscaled(graph, x)
            return inner, factor * alpha
    return id, 1.0
