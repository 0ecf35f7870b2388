"""Which ops of a region to twist: the choice that moves the fewest elements, as a minimum cut.

Each member is a node: on the source side it works as now (*plain*), on the sink side on held
values (*twisted*). A value that exists one way and is read the other way costs a Transpose of its
size, once for all readers. Ops that can't be twisted are the source itself; a Transpose at the
region's border offers its operand, or wants its result, in the twisted way: it is the sink itself.
With these costs a minimum cut is an optimal choice (Greig, Porteous and Seheult, "Exact maximum a
posteriori estimation for binary images", 1989). Of several, the one that twists fewest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Transpose
from qcomp.ir.tensor import TensorId
from qcomp.passes.layout.permutation import after, equivalent, held, keeps_order
from qcomp.passes.layout.region import Region, carriers

# A transpose at the border of the graph disturbs no kernel, so it is cheaper per element.
INNER, BORDER = 4, 1

PLAIN, TWISTED = "plain", "twisted"


@dataclass(frozen=True)
class Coupling:
    """`cost` falls due if any of `readers` is on the other side than `source`."""

    source: str
    readers: tuple[str, ...]
    cost: int


def _node(id: TensorId) -> str:
    return f"op {id}"


def transpose_cost(graph: Graph, op: Transpose) -> int:
    """Elements moved, weighted by the place."""
    at_border = op.x in graph.inputs.values() or not graph.consumers(op.output)
    return graph.type(op.output).size * (BORDER if at_border else INNER)


def best_choice(graph: Graph, region: Region) -> list[TensorId]:
    """The members to twist, in the order of the region; none unless that saves something."""
    couplings = [c for value in region.twists for c in _couplings(graph, region, value)]
    couplings += _side_costs(graph, region)
    network: nx.DiGraph[str] = nx.DiGraph()
    network.add_nodes_from([PLAIN, TWISTED])
    now = 0
    for i, c in enumerate(couplings):
        now += c.cost * any((r == TWISTED) != (c.source == TWISTED) for r in c.readers)
        network.add_edge(c.source, f"leaves plain {i}", capacity=c.cost)
        network.add_edge(f"leaves twisted {i}", c.source, capacity=c.cost)
        for reader in c.readers:
            network.add_edge(f"leaves plain {i}", reader)
            network.add_edge(reader, f"leaves twisted {i}")
    cost, (plain, _) = nx.minimum_cut(network, PLAIN, TWISTED)
    if cost >= now:
        return []
    return [id for id in region.members if _node(id) in network and _node(id) not in plain]


def _couplings(graph: Graph, region: Region, value: TensorId) -> list[Coupling]:
    twist = region.twists[value]
    size = graph.type(value).size
    producer = graph.producer(value)
    from_input = value in graph.inputs.values()
    source = PLAIN
    if isinstance(producer, Transpose):
        if not equivalent(graph.type(value).shape, producer.permutation, twist):
            return []  # one transpose either way
        source, from_input = TWISTED, producer.x in graph.inputs.values()
    elif value in region.members:
        source = _node(value)
    weight = size * (BORDER if from_input else INNER)
    readers: list[str] = []
    couplings: list[Coupling] = []
    for reader in graph.consumers(value):
        if isinstance(reader, Transpose):
            whole = after(twist, reader.permutation)
            if keeps_order(held(graph.type(value).shape, twist), whole):
                border = from_input or not graph.consumers(reader.output)
                cost = size * (BORDER if border else INNER)
                couplings.append(Coupling(source, (TWISTED,), cost))
            continue  # any other transpose stays one, composed with the twist
        member = region.members.get(reader.id)
        carries = member is not None and value in carriers(graph, reader, member.operand)
        readers.append(_node(reader.id) if carries else PLAIN)
    if readers:
        couplings.append(Coupling(source, tuple(readers), weight))
    if graph.is_output(value):
        couplings.append(Coupling(source, (PLAIN,), size * BORDER))
    return couplings


def _side_costs(graph: Graph, region: Region) -> list[Coupling]:
    """Operands of lower rank, which must be extended and transposed for a twisted member."""
    couplings = []
    for id, member in region.members.items():
        op = graph.op(id)
        carried = carriers(graph, op, member.operand)
        for t in graph.activations(op):
            if t in carried:
                continue
            shape = graph.type(t).shape
            extended = (1,) * (len(member.operand) - len(shape)) + shape
            if not keeps_order(held(extended, member.operand), member.operand):
                cost = graph.type(t).size * INNER
                couplings.append(Coupling(PLAIN, (_node(id),), cost))
    return couplings
