"""A graph in consecutive blocks, so that what lies before a change need not run again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, QuantizedConstant, Weighted
from qcomp.ir.tensor import DType, TensorId

_ELEMENT = 50  # multiplications that one activation costs
_NEAR = 0.5  # of a block's work: how far a cut may be moved to where less crosses it


@dataclass(frozen=True)
class Block:
    """Some ops in a row: the tensors that they read from before, and those that they give: to ops
    behind, and as outputs of the graph, by public name. Outputs that are constants are of none.
    """

    ops: frozenset[TensorId]
    reads: tuple[TensorId, ...]
    gives: tuple[TensorId, ...]
    outputs: Mapping[str, TensorId]


def blocks_of(graph: Graph, count: int) -> list[Block]:
    """About so many blocks of about equal work, cut where few numbers cross; one at least."""
    ops = [op for op in graph.ops() if not isinstance(op, QuantizedConstant)]
    places = [0, *_cuts(graph, ops, count), len(ops)]
    return [
        _block(graph, ops[first:last], ops[last:], is_first=first == 0)
        for first, last in itertools.pairwise(places)
    ]


def work_of(graph: Graph, op: Op) -> int:
    """About how many multiplications an op takes, with what moving its result costs."""
    size = graph.type(op.output).size
    if isinstance(op, Weighted):
        return size * (_ELEMENT + math.prod(graph.type(op.weight).shape[1:]))
    return _ELEMENT * size


def _block(graph: Graph, ops: Sequence[Op], behind: Sequence[Op], *, is_first: bool) -> Block:
    made = frozenset(op.output for op in ops)
    read = dict.fromkeys(t for op in ops for t in _values(graph, op) if t not in made)
    later = {t for op in behind for t in op.inputs}
    outputs = {
        name: id
        for name, id in graph.outputs.items()
        if id in made or (is_first and id in graph.inputs.values())
    }
    untouched = {id: None for id in outputs.values() if id not in made}
    gives = tuple(op.output for op in ops if op.output in later)
    return Block(made, tuple(read | untouched), gives, outputs)


def _values(graph: Graph, op: Op) -> list[TensorId]:
    """The operands that are no constants, rounded or not."""
    activations = graph.activations(op)
    return [t for t in activations if not isinstance(graph.producer(t), QuantizedConstant)]


def _cuts(graph: Graph, ops: Sequence[Op], count: int) -> list[int]:
    """The places of the cuts, ascending and distinct; none where nothing but floats crosses."""
    crossing = _crossing(graph, ops)
    done = np.cumsum([work_of(graph, op) for op in ops], dtype=np.float64)
    cuts: list[int] = []
    for i in range(1, count):
        wanted, room = done[-1] * i / count, done[-1] * _NEAR / count
        near = [
            place
            for place in range(1, len(ops))
            if abs(done[place - 1] - wanted) <= room and math.isfinite(crossing[place])
        ]
        if near and (best := min(near, key=lambda p: crossing[p])) not in cuts:
            cuts.append(best)
    return sorted(cuts)


def _crossing(graph: Graph, ops: Sequence[Op]) -> list[float]:
    """How many numbers cross each place; infinity where one is no float."""
    last_use = {t: i for i, op in enumerate(ops) for t in _values(graph, op)}
    born = {id: 0 for id in graph.inputs.values()} | {op.output: i + 1 for i, op in enumerate(ops)}
    sums = np.zeros(len(ops) + 1)
    for id, last in last_use.items():
        type = graph.type(id)
        sums[born[id] : last + 1] += type.size if type.dtype is DType.F32 else math.inf
    return [float(s) for s in sums]
