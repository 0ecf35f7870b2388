"""The range of each group of tensors that share one scale, fit for integer arithmetic.

A group that is 0 on all data has no range of its own, and any scale represents it. It takes the
width of what it meets, the least of several, so that no ratio of scales grows without bound, and
values that the data did not show find steps of a fitting size. A sum that is far smaller than its
operands is noise of theirs; its range is widened until integers can express the ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qcomp.errors import PassError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, Op, Sub
from qcomp.ir.tensor import TensorId

Range = tuple[float, float]

_LARGEST_RATIO = 2.0**20  # of operand to sum; qcomp.quant.binary_constants takes less than 2^22


def group_ranges(graph: Graph, groups: Sequence[Sequence[TensorId]]) -> list[Range]:
    """One for each group; PassError for a tensor without a range."""
    ranges = [_union([_range(graph, t) for t in members]) for members in groups]
    place = {t: i for i, members in enumerate(groups) for t in members}
    _borrow(graph, groups, place, ranges)
    for op in graph.ops():
        if isinstance(op, Add | Sub) and op.output in place:
            _widen(graph, op, place, ranges)
    return ranges


def _range(graph: Graph, tensor: TensorId) -> Range:
    found = graph.tensor(tensor).range
    if found is None:
        raise PassError(f"%{tensor} has no range; annotate ranges first")
    return found


def _union(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _width(found: Range) -> float:
    """With zero, which every range represents."""
    return max(found[1], 0.0) - min(found[0], 0.0)


def _borrow(
    graph: Graph,
    groups: Sequence[Sequence[TensorId]],
    place: dict[TensorId, int],
    ranges: list[Range],
) -> None:
    """From the groups next to those that are known, outwards."""
    dead = [i for i, found in enumerate(ranges) if _width(found) == 0.0]
    while dead:
        widths = {i: _width_met(graph, groups[i], place, ranges) for i in dead}
        found = {i: width for i, width in widths.items() if width is not None}
        if not found:
            return
        for i, width in found.items():
            ranges[i] = (-width / 2, width / 2)
        dead = [i for i in dead if i not in found]


def _width_met(
    graph: Graph, members: Sequence[TensorId], place: dict[TensorId, int], ranges: Sequence[Range]
) -> float | None:
    """The least width among the activations that ops take or give together with a group's."""
    met = {place[t] for m in members for op in _around(graph, m) for t in _touched(op, place)}
    return min((w for i in met if (w := _width(ranges[i])) > 0.0), default=None)


def _around(graph: Graph, tensor: TensorId) -> Iterator[Op]:
    producer = graph.producer(tensor)
    if producer is not None:
        yield producer
    yield from graph.consumers(tensor)


def _touched(op: Op, place: dict[TensorId, int]) -> Iterator[TensorId]:
    return (t for t in (*op.inputs, op.output) if t in place)


def _widen(graph: Graph, op: Add | Sub, place: dict[TensorId, int], ranges: list[Range]) -> None:
    operands = [
        _width(ranges[place[t]]) if t in place else 2.0 * float(np.abs(graph.data(t)).max())
        for t in op.inputs
    ]
    at = place[op.output]
    least, width = max(operands) / _LARGEST_RATIO, _width(ranges[at])
    if 0.0 < width < least:
        low, high = ranges[at]
        ranges[at] = (low * (least / width), high * (least / width))
