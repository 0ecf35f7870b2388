"""What a transformer is known by: normalisations over the channels, the last axis."""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Normalize, Op


def normalizes_channels(graph: Graph, op: Op | None) -> bool:
    """Whether an op is a layer or RMS normalisation of each row of channels."""
    return isinstance(op, Normalize) and op.axes == (graph.type(op.x).rank - 1,)


def is_transformer(graph: Graph) -> bool:
    return any(normalizes_channels(graph, op) for op in graph.ops())
