"""The range of each channel's weights, before and after channels were equalized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.ir.tensor import TensorId

MOST = 256


@dataclass(frozen=True)
class ChannelRanges:
    """The largest magnitude of each output channel's weights; `count` is that of the channels.

    Of more than `MOST` channels these are evenly spread ones. before: None where it is the same.
    """

    count: int
    before: tuple[float, ...] | None
    after: tuple[float, ...]


def channel_ranges(normalized: Graph | None, graph: Graph) -> Mapping[TensorId, ChannelRanges]:
    """By layer; `normalized` is the graph before equalization, where it is known."""
    found = {}
    for op in graph.ops():
        if not isinstance(op, Weighted) or not graph.is_constant(op.weight):
            continue
        after, before = _largest(graph, op), None
        made = None if normalized is None else _same(normalized, op.output)
        if normalized is not None and made is not None:
            before = _largest(normalized, made)
            if before.shape != after.shape or np.allclose(before, after, rtol=1e-6):
                before = None
        some = np.linspace(0, len(after) - 1, min(len(after), MOST)).astype(int)
        found[op.output] = ChannelRanges(
            len(after),
            None if before is None else tuple(map(float, before[some])),
            tuple(map(float, after[some])),
        )
    return found


def _same(graph: Graph, id: TensorId) -> Weighted | None:
    op = graph.producer(id) if id in graph else None
    return op if isinstance(op, Weighted) and graph.is_constant(op.weight) else None


def _largest(graph: Graph, op: Weighted) -> NDArray[np.floating]:
    weight = graph.data(op.weight)
    return np.asarray(np.abs(weight.reshape(len(weight), -1)).max(axis=1))
