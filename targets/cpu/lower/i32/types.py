"""Which ops work on sums of 32 bits."""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import DType


def is_i32(graph: Graph, op: Op) -> bool:
    """Whether an operand or the result stands for real numbers in 32 bits; an index does not."""
    return any(
        graph.type(t).dtype is DType.I32 and graph.tensor(t).qparams is not None
        for t in (*op.inputs, op.output)
    )
