"""What a graph asks of its networkx.DiGraph often.

networkx's own functions go through views of its dictionaries, and its lexicographical sort calls a
function for each key; these read the dictionaries, as its fast algorithms do.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Any

import networkx as nx

DiGraph = Any  # of networkx, whose types do not have the dictionaries


def topological_order(graph: DiGraph) -> list[str]:
    """All nodes, each behind its predecessors; networkx's error if there is a cycle.

    Of the nodes that may stand next, the one with the smallest serial number does.
    """
    node_of: dict[int, str] = {data["serial"]: node for node, data in graph._node.items()}
    waits_for = {node: len(before) for node, before in graph._pred.items()}
    ready = [serial for serial, node in node_of.items() if not waits_for[node]]
    heapify(ready)
    order = []
    while ready:
        node = node_of[heappop(ready)]
        order.append(node)
        for after in graph._succ[node]:
            waits_for[after] -= 1
            if not waits_for[after]:
                heappush(ready, graph._node[after]["serial"])
    if len(order) < len(waits_for):
        raise nx.NetworkXUnfeasible("the graph has a cycle")
    return order


def needed_for(graph: DiGraph, wanted: Iterable[str]) -> set[str]:
    """The wanted nodes and all that they follow from."""
    found = set(wanted)
    waiting = [*found]
    while waiting:
        before = graph._pred[waiting.pop()].keys() - found
        found |= before
        waiting += before
    return found


def copied(graph: DiGraph) -> DiGraph:
    """A copy that shares what the nodes carry; edges carry nothing."""
    copy: DiGraph = nx.DiGraph()
    for node, data in graph._node.items():
        copy._node[node] = data.copy()
        copy._succ[node] = {}
        copy._pred[node] = {}
    for node, successors in graph._succ.items():
        for after in successors:
            copy._succ[node][after] = copy._pred[after][node] = {}
    return copy
