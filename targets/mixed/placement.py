"""Which target computes which op: the choice that takes the least time, as a minimum cut.

A device's memory is not the one that the others share. Each op is a node, on the source's side
where the device computes it, on the sink's elsewhere:

    source -> op   what it takes elsewhere; no bound where nobody else takes it
    op -> sink     what it takes on the device; no bound where the device does not take it

A tensor that is made on one side and read on the other is copied, once for all its readers: a node
between its maker and its readers, whose arc of that cost is cut if the copy is due. Inputs and
outputs of the graph are on the sink's side. A minimum cut is then an optimal choice (Greig,
Porteous and Seheult, "Exact maximum a posteriori estimation for binary images", 1989).

Of several devices, the first chooses against all others, then the second among what that leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import networkx as nx

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import DType, TensorId
from qcomp.targets.base import Target
from qcomp.targets.macs import macs
from qcomp.targets.mixed.limited import Limited

_DEVICE, _ELSEWHERE = "device", "elsewhere"


def placement(graph: Graph, targets: Sequence[Target]) -> dict[TensorId, int]:
    """The position of each op's target; some target must take each of them."""
    chosen: dict[TensorId, int] = {}
    for n, device in enumerate(targets[:-1]):
        taken = _taken(graph, set(chosen), device, targets[n + 1 :])
        chosen |= dict.fromkeys(taken, n)
    left = (op.id for op in graph.ops() if op.id not in chosen)
    return chosen | dict.fromkeys(left, len(targets) - 1)


def op_ns(graph: Graph, op: Op, target: Target) -> float:
    """Nanoseconds of an op on a target, roughly; no bound where it does not take the op."""
    if target.supports(graph, op) is not None:
        return math.inf
    activations = [*graph.activations(op), op.output]
    wide = any(graph.type(t).dtype is DType.I16 for t in activations)
    results = graph.type(op.output).size if wide else 0
    moved = sum(graph.type(t).bytes for t in activations)
    cost = target.cost(macs(graph, op), results, moved, 16 if wide else 8)
    return target.border.launch_ns + cost


def _taken(
    graph: Graph, gone: set[TensorId], device: Target, others: Sequence[Target]
) -> list[TensorId]:
    """The ops that the device computes, of those that are not gone to another.

    What a limited target was asked to take is no question of time.
    """
    network: nx.DiGraph[str] = nx.DiGraph()
    network.add_nodes_from([_DEVICE, _ELSEWHERE])
    ops = [op for op in graph.ops() if op.id not in gone]
    for op in ops:
        here = op_ns(graph, op, device)
        asked = isinstance(device, Limited) and math.isfinite(here)
        there = math.inf if asked else min(op_ns(graph, op, other) for other in others)
        _arc(network, _DEVICE, _node(op.id), there)
        _arc(network, _node(op.id), _ELSEWHERE, here)
    own = {op.id for op in ops}
    for tensor in (*graph.inputs.values(), *(op.output for op in graph.ops())):
        _copies(network, graph, tensor, own, device)
    _, (taken, _) = nx.minimum_cut(network, _DEVICE, _ELSEWHERE)
    return [op.id for op in ops if _node(op.id) in taken]


def _copies(
    network: nx.DiGraph[str], graph: Graph, tensor: TensorId, own: set[TensorId], device: Target
) -> None:
    """The arcs of a tensor's copies to the device, and back from it."""
    readers = {_node(op.id) if op.id in own else _ELSEWHERE for op in graph.consumers(tensor)}
    if graph.is_output(tensor):
        readers.add(_ELSEWHERE)
    maker = _node(tensor) if tensor in own else _ELSEWHERE
    cost = device.border.copy_ns(graph.type(tensor).bytes)
    _arc(network, f"to {tensor}", maker, cost)
    _arc(network, maker, f"from {tensor}", cost)
    for reader in sorted(readers):
        _arc(network, reader, f"to {tensor}", math.inf)
        _arc(network, f"from {tensor}", reader, math.inf)


def _node(op: TensorId) -> str:
    return f"op {op}"


def _arc(network: nx.DiGraph[str], source: str, sink: str, cost: float) -> None:
    """One of infinite cost has no capacity, which is how networkx says it."""
    if math.isfinite(cost):
        network.add_edge(source, sink, capacity=cost)
    else:
        network.add_edge(source, sink)
