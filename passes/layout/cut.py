"""Which ops of a region to twist: the choice that moves the fewest elements, as a minimum cut.

Each member is a node: on the source side it works as now (*plain*), on the sink side on held
values (*twisted*). A value that exists one way and is read the other way costs a Transpose of its
size, once for all readers. Ops that can't be twisted are the source itself; a Transpose at the
region's border offers its operand, or wants its result, in the twisted way: it is the sink itself.
With these costs a minimum cut is an optimal choice (Greig, Porteous and Seheult, "Exact maximum a
posteriori estimation for binary images", 1989). Of several, the one that twists fewest is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import networkx as nx

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Transpose
from qcomp.ir.tensor import TensorId
from qcomp.passes.layout.permutation import (
    Permutation,
    Shape,
    after,
    held,
    identity,
    inverse,
    keeps_order,
)
from qcomp.passes.layout.region import Region, carriers

# Per element. A transpose at the border of the graph stands between no two kernels to be fused.
INNER, BORDER = 4, 1
# Of a transpose that is only a reshape: less than any other, but it does stand between kernels.
RESHAPE_INNER, RESHAPE_BORDER = 2, 1

PLAIN, TWISTED = "plain", "twisted"


@dataclass(frozen=True)
class Coupling:
    """`cost` falls due if any of `readers` is on the other side than `source`."""

    source: str
    readers: tuple[str, ...]
    cost: int


def _node(id: TensorId) -> str:
    return f"op {id}"


def _cost(shape: Shape, permutation: Permutation, border: bool) -> int:
    """Of Transpose(x, permutation), x of this shape."""
    if permutation == identity(len(permutation)):
        return 0
    if keeps_order(shape, permutation):
        return RESHAPE_BORDER if border else RESHAPE_INNER
    return math.prod(shape) * (BORDER if border else INNER)


def transpose_cost(graph: Graph, op: Transpose) -> int:
    """Elements moved, weighted by the place."""
    return _cost(graph.type(op.x).shape, op.permutation, _at_border(graph, op))


def _at_border(graph: Graph, op: Transpose) -> bool:
    return op.x in graph.inputs.values() or not graph.consumers(op.output)


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
    """What a value of the region costs its readers, by where it comes from."""
    twist = region.twists[value]
    shape = held(graph.type(value).shape, twist)
    border = value in graph.inputs.values()
    source, spared = PLAIN, 0
    producer = graph.producer(value)
    if isinstance(producer, Transpose):
        # Its operand, moved by what is left, is the held value; that may spare nothing.
        left = after(producer.permutation, inverse(twist))
        border = producer.x in graph.inputs.values()
        source, spared = TWISTED, _cost(graph.type(producer.x).shape, left, border)
    elif value in region.members:
        source = _node(value)
    readers: list[str] = []
    couplings: list[Coupling] = []
    for reader in graph.consumers(value):
        if isinstance(reader, Transpose):
            couplings.append(_wanted(graph, reader, source, twist, shape, border))
            continue
        member = region.members.get(reader.id)
        carries = member is not None and value in carriers(graph, reader, member.operand)
        readers.append(_node(reader.id) if carries else PLAIN)
    couplings.append(Coupling(source, tuple(readers), _cost(shape, twist, border) - spared))
    if graph.is_output(value):
        couplings.append(Coupling(source, (PLAIN,), _cost(shape, twist, border=True) - spared))
    return [c for c in couplings if c.cost > 0]


def _wanted(
    graph: Graph, reader: Transpose, source: str, twist: Permutation, shape: Shape, border: bool
) -> Coupling:
    """A transpose wants its operand twisted, as far as it then has less to move."""
    border = border or _at_border(graph, reader)
    now = _cost(graph.type(reader.x).shape, reader.permutation, border)
    then = _cost(shape, after(twist, reader.permutation), border)
    return Coupling(source, (TWISTED,), now - then)


def _side_costs(graph: Graph, region: Region) -> list[Coupling]:
    """Operands of lower rank, which must be extended and transposed for a twisted member."""
    couplings = []
    for id, member in region.members.items():
        op = graph.op(id)
        carried = carriers(graph, op, member.operand)
        for t in graph.activations(op):
            if t in carried or graph.type(t).size == 1:
                continue
            extended = (1,) * (len(member.operand) - graph.type(t).rank) + graph.type(t).shape
            cost = _cost(extended, inverse(member.operand), border=False)
            couplings.append(Coupling(PLAIN, (_node(id),), max(cost, RESHAPE_INNER)))
    return couplings
