"""Which activations have 16 bits whatever is asked for: those that an op says need them."""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import DType, TensorId


def of_16_bits(graph: Graph) -> frozenset[TensorId]:
    """The f32 activations that some op which is not kept in floats reads or gives so."""
    asked = {t for op in graph.ops() if not graph.is_kept(op) for t in op.of_16_bits}
    return frozenset(
        t for t in asked if not graph.is_constant(t) and graph.type(t).dtype is DType.F32
    )
