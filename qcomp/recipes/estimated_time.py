"""How long a network takes on a target, estimated from its float graph and bits of activations.

The estimate counts multiply-accumulates, results and bytes of activations at the rates of the
target, on one thread of its best instruction set. It is right to a factor of two or so, and better
for comparing choices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Attention,
    Binary,
    Clamp,
    Conv2d,
    LogSoftmax,
    MatMul,
    Minimum,
    Op,
    Recurrent,
    Softmax,
    Transpose,
    Unary,
    Weighted,
)
from qcomp.ir.tensor import DType, TensorId

_RUN_NS = 1000.0  # of a call of the library
_OP_NS = 100.0

# Results of layers with weights that take as long as one of a table, as one of two operands, and as
# one of a softmax: of 16 bits it goes element by element, of 8 by a table of quotients.
_INTERPOLATED, _COMBINED, _ONE_BY_ONE, _LOOKED_UP = 6, 3, 50, 10

CostOf = Callable[[int, int, int, int], float]
"""Nanoseconds by multiply-accumulates, results, bytes and bits of activations: `Target.cost`.

Results count where any activation has 16 bits, the bits are those of what is multiplied.
"""


def activation_ns(graph: Graph, id: TensorId, bits: int, cost: CostOf) -> float:
    """Of an activation: the time of its readers' products and results, and of its bytes."""
    readers = [op for op in graph.consumers(id) if op.inputs[0] == id]
    macs = sum(_macs(graph, op) for op in readers)
    results = sum(_results(graph, op, is_wide=True) for op in readers) if bits > 8 else 0
    moved = graph.type(id).size * bits // 8 * (1 + len(graph.consumers(id)))
    return cost(macs, results, moved, bits)


def op_ns(graph: Graph, op: Op, wide: Collection[TensorId], cost: CostOf) -> float:
    """Of an op with 16 bits for the activations in `wide`, and 8 for the others.

    What is multiplied decides how fast products are, but not those of depthwise layers, which wait
    for their operands; 16 bits at either side decide for results.
    """
    if _is_bound(graph, op):
        return 0.0
    sources = graph.activations(op)
    values = [t for t in dict.fromkeys((op.output, *sources)) if graph.type(t).dtype is DType.F32]
    moved = sum(graph.type(t).size * (2 if t in wide else 1) for t in values)
    is_wide = any(t in wide for t in sources)
    results = _results(graph, op, is_wide=is_wide) if any(t in wide for t in values) else 0
    bits = 16 if is_wide and not _is_depthwise(graph, op) else 8
    return cost(_macs(graph, op), results, moved, bits)


def network_ns(graph: Graph, cost: CostOf) -> float:
    """Of a run with 8 bits everywhere; of a small network, most are calls."""
    ops = graph.ops()
    return _RUN_NS + _OP_NS * len(ops) + sum(op_ns(graph, op, (), cost) for op in ops)


def _is_depthwise(graph: Graph, op: Op) -> bool:
    return isinstance(op, Conv2d) and op.groups > 1 and graph.type(op.weight).shape[3] == 1


def _is_bound(graph: Graph, op: Op) -> bool:
    """Whether an op only bounds what a layer before it makes, which that layer can do."""
    before = [graph.producer(t) for t in graph.activations(op)]
    return isinstance(op, Minimum | Clamp) and len(before) == 1 and isinstance(before[0], Weighted)


def _results(graph: Graph, op: Op, *, is_wide: bool) -> int:
    """As many as a layer with weights has in that time; none where values are copied in rows.

    `is_wide`: whether an operand has 16 bits.
    """
    size = graph.type(op.output).size
    match op:
        case Unary():
            return _INTERPOLATED * size
        case Binary():
            return _COMBINED * size
        case Softmax() | LogSoftmax():
            return (_ONE_BY_ONE if is_wide else _LOOKED_UP) * size
        case _ if op.copies_integers and not isinstance(op, Transpose):
            return 0
        case _:
            return size


def _macs(graph: Graph, op: Op) -> int:
    results = graph.type(op.output).size
    match op:
        case Weighted():
            weight = graph.type(op.weight)
            return results * weight.size // weight.shape[0]
        case MatMul():
            return results * graph.type(op.inputs[0]).shape[-1]
        case Attention():
            return 2 * results * graph.type(op.k).shape[1]
        case Recurrent():
            steps, batch, _ = graph.type(op.x).shape
            return steps * batch * graph.type(op.weight).size
        case _:
            return 0
