"""How many products an op sums: what all estimates of targets begin with."""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, QAttention, QMatMul, QRecurrent, QWeighted


def macs(graph: Graph, op: Op) -> int:
    """Of an integer op; padding counts, as kernels compute it."""
    results = graph.type(op.output).size
    match op:
        case QWeighted():
            weight = graph.type(op.weight)
            return results * weight.size // weight.shape[0]
        case QMatMul():
            return results * graph.type(op.a).shape[-1]
        case QAttention():
            return results * graph.type(op.k).shape[1] * 2
        case QRecurrent():
            steps, batch, _ = graph.type(op.x).shape
            return steps * batch * graph.type(op.weight).size
        case _:
            return 0
