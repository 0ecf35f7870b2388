"""What a library asks of inputs before it writes anything: indices are rows of their tables."""

from __future__ import annotations

from qcomp.ir.graph import Graph
from qcomp.ir.index_bounds import index_bounds
from qcomp.targets.cpu.program import Address, ConstantData, IndexCheck


def index_checks(graph: Graph, data: ConstantData) -> tuple[IndexCheck, ...]:
    """One for each input that has bounds; those that differ by element are stored."""
    bounds, found = index_bounds(graph), []
    for index, id in enumerate(graph.inputs.values()):
        if id not in bounds:
            continue
        type, known = graph.type(id), bounds[id]
        low: int | Address
        high: int | Address
        if known.interval is not None:
            low, high = known.interval
        else:
            low, high = (data.add(a.astype(type.dtype.numpy)) for a in (known.low, known.high))
        found.append(IndexCheck(index, type.size, type.dtype.numpy.itemsize, low, high))
    return tuple(found)
