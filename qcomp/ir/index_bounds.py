"""Which integers of an input are indices of the rows that tables have, or lengths of a sequence.

Demands go backwards from each look-up of rows, and from the lengths that a recurrent layer has,
through movements and through functions of single values that rise or fall, to the inputs of an
integer graph. What an input may be is then known for each of its elements before a run. An index
that other ops compute, or several inputs, has no such bounds: a look-up clamps it
(evaluate/embedding.py), and so does a layer its lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    BroadcastTo,
    Concat,
    Gather,
    Interpolate,
    Op,
    QAdd,
    QAddWide,
    QConv2d,
    QEmbedding,
    QMul,
    QRecurrent,
    QRescale,
    Reshape,
    Slice,
    Table,
    Tile,
    Transpose,
)
from qcomp.ir.tensor import Array, TensorId

Integers = NDArray[np.int64]

_MOVEMENTS = (BroadcastTo, Concat, Gather, Reshape, Slice, Tile, Transpose)
_LINEAR = (QAdd, QAddWide, QMul, QRescale)
_TABLES = (Interpolate, Table)


@dataclass(frozen=True, eq=False)
class IndexBounds:
    """The least and the largest integer of each element, both accepted; of the tensor's shape."""

    low: Integers
    high: Integers

    @property
    def interval(self) -> tuple[int, int] | None:
        """That of all elements, if they have the same."""
        low, high = int(self.low.flat[0]), int(self.high.flat[0])
        same = bool((self.low == low).all() and (self.high == high).all())
        return (low, high) if same else None


def index_bounds(graph: Graph) -> dict[TensorId, IndexBounds]:
    """Of the inputs of an integer graph that indices come from and that can be none."""
    demands = _Demands(graph)
    for op in reversed(graph.ops()):
        demands.pass_on(op)
    return {id: found for id in graph.inputs.values() if (found := demands.of(id)) is not None}


class _Demands:
    """What is asked of the elements of tensors so far."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._asked: dict[TensorId, IndexBounds] = {}

    def of(self, id: TensorId) -> IndexBounds | None:
        """None where any integer of the tensor's type will do."""
        found = self._asked.get(id)
        if found is None or found.low.size == 0:
            return None
        qmin, qmax = self._limits(id)
        bounds = IndexBounds(np.maximum(found.low, qmin), np.minimum(found.high, qmax))
        return None if bounds.interval == (qmin, qmax) else bounds

    def pass_on(self, op: Op) -> None:
        """From the result of an op to its operands."""
        if isinstance(op, QEmbedding) and op.wraps:
            rows = self._graph.type(op.table).shape[0]
            shape = self._graph.type(op.x).shape
            low, high = np.full(shape, op.first - rows), np.full(shape, op.first + rows - 1)
            self._ask(op.x, low, high)
        if isinstance(op, QRecurrent) and op.lengths is not None:
            steps, batch, _ = self._graph.type(op.x).shape
            self._ask(op.lengths, np.zeros(batch, np.int64), np.full(batch, steps))
        asked = self._asked.get(op.output)
        if asked is None:
            return
        if isinstance(op, _MOVEMENTS):
            self._move(op, asked)
        elif self._is_of_single_values(op):
            self._invert(op, asked)

    def _is_of_single_values(self, op: Op) -> bool:
        """Whether each result is a function of one element; so is a layer of a weight each."""
        if isinstance(op, QConv2d):
            weight = self._graph.type(op.weight).shape
            return weight == (op.groups, 1, 1, 1) and not any(op.padding)
        return isinstance(op, _LINEAR + _TABLES) and len(self._graph.activations(op)) == 1

    def _ask(self, id: TensorId, low: Integers, high: Integers) -> None:
        before = self._asked.get(id)
        if before is not None:
            low, high = np.maximum(low, before.low), np.minimum(high, before.high)
        self._asked[id] = IndexBounds(low, high)

    def _limits(self, id: TensorId) -> tuple[int, int]:
        info = np.iinfo(self._graph.type(id).dtype.numpy)
        return int(info.min), int(info.max)

    def _move(self, op: Op, asked: IndexBounds) -> None:
        """Numbers of elements, moved as the op moves values, tell whose demand is whose."""
        graph, start = self._graph, 0
        first: dict[TensorId, int] = {}
        operands = []
        for position, id in enumerate(op.inputs):
            type = graph.type(id)
            if position in op.constant_operands:
                operands.append(graph.data(id))
            elif graph.is_constant(id):
                operands.append(np.full(type.shape, -1))
            else:
                first.setdefault(id, start)
                numbers = first[id] + np.arange(type.size)
                operands.append(numbers.reshape(type.shape))
                start = max(start, first[id] + type.size)
        moved = _meaning(op, *operands)
        for id, begin in first.items():
            shape = graph.type(id).shape
            size = graph.type(id).size
            mine = (moved >= begin) & (moved < begin + size)
            qmin, qmax = self._limits(id)
            low, high = np.full(size, qmin), np.full(size, qmax)
            np.maximum.at(low, moved[mine] - begin, asked.low[mine])
            np.minimum.at(high, moved[mine] - begin, asked.high[mine])
            self._ask(id, low.reshape(shape), high.reshape(shape))

    def _invert(self, op: Op, asked: IndexBounds) -> None:
        """Where a function that rises or falls is within what is asked, by bisection."""
        graph = self._graph
        (id,) = graph.activations(op)
        type, (qmin, qmax) = graph.type(id), self._limits(id)

        def result(x: Integers) -> Integers:
            given = x.astype(type.dtype.numpy)
            operands = [given if t == id else graph.data(t) for t in op.inputs]
            return _meaning(op, *operands).astype(np.int64)

        def every(holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
            """For each element of the operand, of the results that it is broadcast to."""
            ahead = holds.ndim - len(type.shape)
            axes = [*range(ahead)]
            axes += [
                ahead + i
                for i, extent in enumerate(type.shape)
                if extent == 1 and holds.shape[ahead + i] != 1
            ]
            return holds.all(axis=tuple(axes), keepdims=True).reshape(type.shape)

        least, largest = (result(np.full(type.shape, q)) for q in (qmin, qmax))
        steps = np.diff(result(np.arange(qmin, qmax + 1))) if isinstance(op, _TABLES) else least * 0
        if (largest >= least).all() and (steps >= 0).all():
            sign, first, last = 1, asked.low, asked.high
        elif (largest <= least).all() and (steps <= 0).all():
            sign, first, last = -1, -asked.high, -asked.low
        else:
            return

        def enough(x: Integers) -> NDArray[np.bool_]:
            return every(sign * result(x) >= first)

        def too_much(x: Integers) -> NDArray[np.bool_]:
            return ~every(sign * result(x) <= last)

        low = _first(enough, type.shape, qmin, qmax)
        beyond = _first(too_much, type.shape, qmin, qmax)
        self._ask(id, low, beyond - 1)


def _meaning(op: Op, *operands: Array) -> Array:
    return np.asarray(MEANINGS[type(op)](op, *operands))


def _first(
    holds: Callable[[Integers], NDArray[np.bool_]], shape: tuple[int, ...], qmin: int, qmax: int
) -> Integers:
    """The least integers from which on something holds; qmax + 1 where it never does."""
    low, high = np.full(shape, qmin), np.full(shape, qmax + 1)
    while (low < high).any():
        middle = np.minimum((low + high) >> 1, qmax)
        found = holds(middle) | (low >= high)
        high = np.where(found & (low < high), middle, high)
        low = np.where(found, low, middle + 1)
    return low
