"""How long a network takes on a target, estimated from its float graph and bits of activations.

The estimate counts multiply-accumulates, results and bytes of activations at the rates of the
target, on one thread of its best instruction set. It is right to a factor of two or so, and better
for comparing choices.
"""

from __future__ import annotations

from collections.abc import Callable

from qcomp.ir.graph import Graph
from qcomp.ir.ops import MatMul, Op, Transpose, Weighted
from qcomp.ir.tensor import DType, TensorId

_RUN_NS = 1000.0  # of a call of the library
_OP_NS = 100.0

CostOf = Callable[[int, int, int, int], float]
"""Nanoseconds by multiply-accumulates, results, bytes and bits of activations: `Target.cost`."""


def activation_ns(graph: Graph, id: TensorId, bits: int, cost: CostOf) -> float:
    """Of an activation: the time of its readers' products and results, and of its bytes."""
    readers = [op for op in graph.consumers(id) if op.inputs[0] == id]
    macs = sum(_macs(graph, op) for op in readers)
    results = sum(_results(graph, op) for op in readers)
    moved = graph.type(id).size * bits // 8 * (1 + len(graph.consumers(id)))
    return cost(macs, results, moved, bits)


def op_ns(graph: Graph, op: Op, bits: int, cost: CostOf) -> float:
    """Of an op whose kernel works on values of so many bits; one with any of 16 works on 16."""
    values = {op.output, *graph.activations(op)}
    moved = sum(graph.type(t).size for t in values if graph.type(t).dtype is DType.F32)
    return cost(_macs(graph, op), _results(graph, op), moved * bits // 8, bits)


def network_ns(graph: Graph, cost: CostOf) -> float:
    """Of a run with 8 bits everywhere; of a small network, most are calls."""
    ops = graph.ops()
    return _RUN_NS + _OP_NS * len(ops) + sum(op_ns(graph, op, 8, cost) for op in ops)


def _results(graph: Graph, op: Op) -> int:
    """None where values are copied in rows."""
    copies_rows = op.copies_integers and not isinstance(op, Transpose)
    return 0 if copies_rows else graph.type(op.output).size


def _macs(graph: Graph, op: Op) -> int:
    results = graph.type(op.output).size
    match op:
        case Weighted():
            weight = graph.type(op.weight)
            return results * weight.size // weight.shape[0]
        case MatMul():
            return results * graph.type(op.inputs[0]).shape[-1]
        case _:
            return 0
