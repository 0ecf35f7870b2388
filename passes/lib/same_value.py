"""Whether two tensors are computed in the same way, as exporters repeat what several ops read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId

_DEPTH = 6  # ops that are looked back


def same(graph: Graph, a: TensorId, b: TensorId, depth: int = _DEPTH) -> bool:
    """Whether two tensors are the same function of the same tensors."""
    if a == b:
        return True
    if graph.type(a) != graph.type(b):
        return False
    if graph.is_constant(a) and graph.is_constant(b):
        return bool(np.array_equal(graph.data(a), graph.data(b)))
    first, second = graph.producer(a), graph.producer(b)
    if depth == 0 or first is None or second is None or type(first) is not type(second):
        return False
    return replace(second, inputs=first.inputs, output=first.output) == first and all(
        same(graph, s, t, depth - 1) for s, t in zip(first.inputs, second.inputs, strict=True)
    )
