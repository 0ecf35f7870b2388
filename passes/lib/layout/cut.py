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
from qcomp.passes.lib.layout.permutation import (
    Permutation,
    Shape,
    after,
    held,
    identity,
    inverse,
    keeps_order,
)
from qcomp.passes.lib.layout.region import Region, carriers

# Per element. A transpose at the border of the graph stands between no two kernels to be fused.
INNER, BORDER = 4, 1
# Of a transpose that is only a reshape: less than any other, but it does stand between kernels.
RESHAPE_INNER, RESHAPE_BORDER = 2, 1

PLAIN, TWISTED = "plain", "twisted"


@dataclass(frozen=True)
class Charge:
    """A penalty of the cut: some reader is on side `wanted`, its producer `source` is not.

    `cost` is then paid for the transpose that must be inserted between them.
    """

    wanted: str
    source: str
    readers: tuple[str, ...]
    cost: int

    def is_due_now(self) -> bool:
        """Whether the penalty is paid when every member of the region is plain."""
        sides = [node == TWISTED for node in (self.source, *self.readers)]
        wanted = self.wanted == TWISTED
        return sides[0] != wanted and wanted in sides[1:]


def _node(id: TensorId) -> str:
    return f"op {id}"


def _cost(shape: Shape, permutation: Permutation, border: bool) -> int:
    """The cost of Transpose(x, permutation), x of this shape."""
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
    charges = [c for value in region.twists for c in _charges(graph, region, value)]
    charges = [c for c in (*charges, *_side_charges(graph, region)) if c.readers and c.cost > 0]
    network: nx.DiGraph[str] = nx.DiGraph()
    network.add_nodes_from([PLAIN, TWISTED])
    for i, c in enumerate(charges):
        # One arc of this cost is cut iff the charge is due; the others, unbounded, never are.
        arc = (c.source, f"charge {i}") if c.wanted == TWISTED else (f"charge {i}", c.source)
        network.add_edge(*arc, capacity=c.cost)
        for reader in c.readers:
            arc = (f"charge {i}", reader) if c.wanted == TWISTED else (reader, f"charge {i}")
            network.add_edge(*arc)
    cost, (plain, _) = nx.minimum_cut(network, PLAIN, TWISTED)
    if cost >= sum(c.cost for c in charges if c.is_due_now()):
        return []
    return [id for id in region.members if _node(id) in network and _node(id) not in plain]


def _charges(graph: Graph, region: Region, value: TensorId) -> list[Charge]:
    """The penalties for reading a value of the region in the other layout, by its producer."""
    twist = region.twists[value]
    shape = held(graph.type(value).shape, twist)
    readers = _readers(graph, region, value)
    producer = graph.producer(value)
    from_input = value in graph.inputs.values()
    if isinstance(producer, Transpose):
        # Plain is the transpose as it is; twisted is its operand, moved by what is left.
        source, from_input = TWISTED, producer.x in graph.inputs.values()
        shape, whole = graph.type(producer.x).shape, producer.permutation
        left = after(whole, inverse(twist))
        charges = [Charge(TWISTED, PLAIN, readers, _cost(shape, left, from_input))]
    else:
        maker = region.members.get(value)
        gives_it = maker is not None and maker.columns is None and maker.result == twist
        source = _node(value) if gives_it else PLAIN
        whole = twist
        charges = _transposes_of(graph, value, source, twist)
        cost = _cost(shape, twist, from_input) - _cost_of_inverse(graph, value, twist)
        charges.append(Charge(TWISTED, source, readers, cost))
    for_output = _cost(shape, whole, border=True) if graph.is_output(value) else 0
    charges.append(Charge(PLAIN, source, (PLAIN,), for_output))
    cost = _cost(shape, whole, from_input) - for_output
    return [*charges, Charge(PLAIN, source, readers, cost)]


def _readers(graph: Graph, region: Region, value: TensorId) -> tuple[str, ...]:
    """The nodes of a value's readers, apart from transposes."""
    nodes = []
    for reader in graph.consumers(value):
        if isinstance(reader, Transpose):
            continue
        member = region.members.get(reader.id)
        held_alike = member is not None and member.operand == region.twists[value]
        if member is not None and held_alike and value in carriers(graph, reader, member.operand):
            nodes.append(_node(reader.id))
        else:
            nodes.append(PLAIN)
    return tuple(nodes)


def _transposes_of(graph: Graph, value: TensorId, source: str, twist: Permutation) -> list[Charge]:
    """The penalties of transposes of a value, which compose with its twist."""
    charges = []
    for reader in graph.consumers(value):
        if isinstance(reader, Transpose):
            shape = held(graph.type(value).shape, twist)
            plain = transpose_cost(graph, reader)
            twisted = _cost(shape, after(twist, reader.permutation), _at_border(graph, reader))
            wanted = TWISTED if twisted < plain else PLAIN
            charges.append(Charge(wanted, source, (wanted,), abs(plain - twisted)))
    return charges


def _cost_of_inverse(graph: Graph, value: TensorId, twist: Permutation) -> int:
    """The cost of an existing transpose from the plain value to the held one; 0 without one."""
    for reader in graph.consumers(value):
        if isinstance(reader, Transpose) and reader.permutation == inverse(twist):
            return transpose_cost(graph, reader)
    return 0


def _side_charges(graph: Graph, region: Region) -> list[Charge]:
    """Operands of lower rank, which must be extended and transposed for a twisted member."""
    charges = []
    for id, member in region.members.items():
        op = graph.op(id)
        carried = carriers(graph, op, member.operand)
        for t in graph.activations(op):
            if t in carried or graph.type(t).size == 1:
                continue
            extended = (1,) * (len(member.operand) - graph.type(t).rank) + graph.type(t).shape
            cost = _cost(extended, inverse(member.operand), border=False)
            charges.append(Charge(TWISTED, PLAIN, (_node(id),), max(cost, RESHAPE_INNER)))
    return charges
