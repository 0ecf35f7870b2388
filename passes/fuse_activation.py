"""Merge a clamp (ReLU, ReLU6, Clip) into the op that feeds it.

    clamp2(clamp1(f(x))) = clamp12(f(x)),  clamp12 the intersection
and, since a maximum and a movement only select values, clamp(max_pool(y)) = max_pool(clamp(y)):
the clamp goes through those to the op above. A mean does not select, so it stops there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Binary,
    BroadcastTo,
    Clamp,
    DepthToSpace,
    Gather,
    MaxPool2d,
    Normalize,
    Op,
    Reduce,
    Reduction,
    Reshape,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
    Weighted,
)
from qcomp.ir.tensor import Mark, TensorId
from qcomp.passes.events import PassLog

Clamping = Weighted | Binary | Clamp | Normalize

_SELECTING = (
    BroadcastTo,
    DepthToSpace,
    Gather,
    MaxPool2d,
    Reshape,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
)


@dataclass(frozen=True)
class FuseActivation:
    """The fused op takes the clamp's id; through a movement, the movement does.

    `rounds`: what has a scale of its own is rounded to it, so a clamp behind it that has another
    one stays.
    """

    name: ClassVar[str] = "fuse-activation"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    rounds: bool = False

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if not isinstance(op, Clamp):
                continue
            source = _source(graph, op, rounds=self.rounds)
            if isinstance(source, str):
                log.skipped(op.id, source)
            else:
                _fuse(graph, op, source)
                log.did(f"{op.id} into {source.id}", op=op.id)


def _source(graph: Graph, clamp: Clamp, *, rounds: bool) -> Clamping | str:
    """The op above that can clamp, or the reason there is none."""
    id: TensorId = clamp.x
    while True:
        own = graph.tensor(id).qparams
        if rounds and own is not None and own != graph.tensor(clamp.id).qparams:
            return f"%{id} is rounded to a scale of its own"
        producer = graph.producer(id)
        if producer is None:
            return f"%{id} is not the result of an op"
        if graph.sole_consumer(id) is None:
            return f"%{id} has other users"
        if isinstance(producer, Clamping):
            return producer
        if graph.tensor(id).qparams is not None:
            return f"%{id} has a scale of its own"
        if not _selects(producer):
            return f"%{id} is the result of a {producer.mnemonic}, which can't clamp"
        id = producer.inputs[0]


def _selects(op: Op) -> bool:
    """Each result is one of the values of the first operand, and larger values give larger ones."""
    if isinstance(op, Reduce):
        return op.kind in (Reduction.MAX, Reduction.MIN)
    return isinstance(op, _SELECTING)


def _mark_clamped(graph: Graph, first: TensorId, last: TensorId) -> None:
    """From the op that clamps now to the one before the clamp; the last takes the clamp's place."""
    while first != last:
        graph.mark(first, Mark.CLAMPED)
        (reader,) = graph.consumers(first)
        first = reader.output


def _fuse(graph: Graph, clamp: Clamp, source: Clamping) -> None:
    fused = replace(source, clamp=source.clamp.intersect(clamp.clamp))
    last = graph.op(clamp.x)
    if last.id == source.id:
        last = fused
    else:
        graph.replace_op(fused)
        _mark_clamped(graph, fused.id, last.id)
    normal = graph.tensor(last.id).normal
    graph.replace_op(replace(last, output=clamp.id), normal=normal)
    graph.erase(last.id)
