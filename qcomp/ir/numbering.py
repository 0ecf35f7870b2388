"""The numbers of activations, by which code that has no names speaks of them."""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId


def activations(graph: Graph) -> tuple[TensorId, ...]:
    """Inputs, then the result of each op in order; the place of each is its number."""
    return (*dict.fromkeys(graph.inputs.values()), *(op.output for op in graph.ops()))
