"""Parts of tensors along an axis: who reads which, and where they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Clamp, Gather, Op, Reshape, Slice, Transpose, Unary, Weighted
from qcomp.ir.tensor import TensorId


@dataclass(frozen=True, order=True)
class Span:
    """Neighbours [start, stop) along an axis."""

    axis: int
    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start

    def __contains__(self, index: int) -> bool:
        return self.start <= index < self.stop

    def times(self, factor: int, axis: int) -> Span:
        """Along another axis, where each of them is so many."""
        return Span(axis, self.start * factor, self.stop * factor)


def with_extent(shape: tuple[int, ...], part: Span) -> tuple[int, ...]:
    """The shape of a part."""
    return (*shape[: part.axis], part.count, *shape[part.axis + 1 :])


# ------------------------------------------------------------------------- readers


def readers(graph: Graph, id: TensorId, axis: int) -> list[tuple[Op, Span]]:
    """The readers of a tensor that take neighbours along the axis, with these."""
    found = [(op, _span_read(graph, op, axis)) for op in graph.consumers(id)]
    return [(op, span) for op, span in found if span is not None]


def _span_read(graph: Graph, op: Op, axis: int) -> Span | None:
    """The neighbours along an axis that an op takes, if it does nothing else to the axis."""
    match op:
        case Slice() if op.steps[axis] == 1:
            return Span(axis, op.starts[axis], op.starts[axis] + op.sizes[axis])
        case Gather() if op.axis == axis:
            indices = graph.data(op.indices)
            if indices.size and bool((np.diff(indices) == 1).all()):
                return Span(axis, int(indices[0]), int(indices[-1]) + 1)
    return None


def parts_of(graph: Graph, id: TensorId) -> list[Span]:
    """What is read together along one axis, in order; none where a reader takes all in one."""
    if graph.is_output(id):
        return []
    for axis in reversed(range(graph.type(id).rank)):
        parts = _parts_along(graph, id, axis)
        if len(parts) > 1:
            return parts
    return []


def _parts_along(graph: Graph, id: TensorId, axis: int) -> list[Span]:
    found = readers(graph, id, axis)
    if len(found) < len(graph.consumers(id)):
        return []
    parts: list[Span] = []
    for span in sorted(span for _, span in found):
        if parts and span.start < parts[-1].stop:
            parts[-1] = Span(axis, parts[-1].start, max(parts[-1].stop, span.stop))
        else:
            parts.append(span)
    return parts


# --------------------------------------------------------------- the way to the layer


def way_to_layer(graph: Graph, op: Op, part: Span) -> list[tuple[TensorId, Span]]:
    """The results from the op's up to a layer's, with where the part lies in each.

    Empty where there is no layer, or another reader between.
    """
    way = [(op.output, part)]
    while not graph.is_kept(op):
        if isinstance(op, Weighted):
            is_channels = way[-1][1].axis == graph.type(op.output).rank - 1
            return way if is_channels else []
        before = part_before(graph, op, way[-1][1])
        x = graph.activations(op)[0] if graph.activations(op) else op.output
        if before is None or graph.sole_consumer(x) is None or graph.producer(x) is None:
            return []
        op = graph.op(x)
        way.append((x, before))
    return []


def part_before(graph: Graph, op: Op, span: Span) -> Span | None:
    """Where a part of an op's result lies in its operand, or None."""
    match op:
        case Unary() | Clamp():
            return span
        case Transpose():
            return replace(span, axis=op.permutation[span.axis])
        case Reshape():
            return _before_reshape(graph.type(op.x).shape, op.shape, span)
    return None


def _before_reshape(x: Sequence[int], y: Sequence[int], span: Span) -> Span | None:
    """Of an axis that an axis of x begins with, each of its elements being so many of that."""
    outer, inner = math.prod(y[: span.axis]), math.prod(y[span.axis + 1 :])
    for axis in range(len(x)):
        behind = math.prod(x[axis + 1 :])
        if math.prod(x[:axis]) == outer and inner % behind == 0:
            return span.times(inner // behind, axis)
    return None


def is_between_groups(graph: Graph, layer: Weighted, part: Span) -> bool:
    per_group = graph.type(layer.output).shape[-1] // layer.groups
    return layer.groups == 1 or (part.start % per_group == 0 and part.count % per_group == 0)
