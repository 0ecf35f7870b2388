"""Values that say "not at all": what a softmax far below sees of a mask of -1e9 or -inf.

They would make the range of the scores that they are added to, and of themselves. Where the table
of what ops tell apart (qcomp.ir.saturation) leaves them out, they are observed as the lowest value
that counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Attention, Op, Softmax
from qcomp.ir.saturation import SEEN, WHOLE, Interval, Reading
from qcomp.ir.tensor import Array, TensorId

LOWEST = -500.0
"""Below are masks: exporters write -10000 and less, which scaled scores may divide by 11."""


class Masks:
    """Of one graph: `counted` gives a run's values as they count."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._behind = _in_front_of_softmax(graph)

    def counted(self, values: Mapping[TensorId, Array]) -> dict[TensorId, Array]:
        """The values, with the lowest that counts in the place of masks."""
        found = dict(values)
        needed: dict[TensorId, Interval] = {}
        for id in self._behind:
            if id not in found or float(found[id].min()) >= LOWEST:
                continue
            floor = self._floor(id, values, needed)
            if floor > -math.inf:
                needed[id] = floor, math.inf
                found[id] = np.maximum(found[id], np.float32(floor))
        return found

    def _floor(
        self,
        id: TensorId,
        values: Mapping[TensorId, Array],
        needed: Mapping[TensorId, Interval],
    ) -> float:
        """The lowest value that a reader tells from still lower ones."""
        floors = [
            SEEN[type(op)](self._reading(op, index, values, needed), op)[0]
            for op in self._graph.consumers(id)
            for index, t in enumerate(op.inputs)
            if t == id
        ]
        return min(floors)

    def _reading(
        self,
        op: Op,
        index: int,
        values: Mapping[TensorId, Array],
        needed: Mapping[TensorId, Interval],
    ) -> Reading:
        return Reading(
            index=index,
            operands=tuple(_live(self._value(t, values)) for t in op.inputs),
            result=WHOLE,
            needed=needed.get(op.output, WHOLE),
            tolerance=0.0,
            peak=_peak(op, values[op.x]) if isinstance(op, Softmax) else None,
        )

    def _value(self, id: TensorId, values: Mapping[TensorId, Array]) -> Array:
        data = self._graph.tensor(id).data
        return values[id] if data is None else data


def _in_front_of_softmax(graph: Graph) -> list[TensorId]:
    """The tensors that softmaxes read, by way of ops with a row, the last ones first."""
    order = [*graph.inputs.values(), *(op.output for op in graph.ops())]
    found: dict[TensorId, None] = {}
    for id in reversed(order):
        readers = graph.consumers(id)
        if readers and not graph.is_output(id) and all(_leads(op, found) for op in readers):
            found[id] = None
    return list(found)


def _leads(op: Op, found: Mapping[TensorId, None]) -> bool:
    return type(op) in (Softmax, Attention) or (type(op) in SEEN and op.output in found)


def _live(value: Array) -> Interval:
    """The interval of the values that are no masks."""
    live = value[value > LOWEST]
    return (float(live.min()), float(live.max())) if live.size else (0.0, 0.0)


def _peak(op: Softmax, x: Array) -> float | None:
    """The smallest maximum of a row that is not masked as a whole."""
    peaks = x.max(axis=op.axis)
    live = peaks[peaks > LOWEST]
    return float(live.min()) if live.size else None
