"""The shape of the graph itself: unique names, every value produced, no cycle."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Sequence

import onnx

from qcomp.errors import ModelError


def ordered_nodes(
    graph: onnx.GraphProto, outside: Container[str] = frozenset()
) -> list[onnx.NodeProto]:
    """The nodes so that each follows what it reads; ModelError for a broken graph.

    `outside` has the names that a subgraph may read of the graphs around it.
    """
    given = _given_names(graph)
    producer = _producers(graph, given)
    _check_uses(graph, given | set(producer), outside)
    return _sorted(graph.node, producer)


def reads(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, also inside of its subgraphs."""
    names = set(filter(None, node.input))
    for graph in subgraphs(node):
        own = _own_names(graph)
        read = {name for inner in graph.node for name in reads(inner)}
        names |= (read | {o.name for o in graph.output}) - own
    return names


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their subgraphs, however deep."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph.node)


def _own_names(graph: onnx.GraphProto) -> set[str]:
    given = [*graph.input, *graph.initializer]
    return {g.name for g in given} | {name for node in graph.node for name in node.output}


def check_text(graph: onnx.GraphProto) -> None:
    """protobuf gives back bytes, and no str, for text that is not UTF-8."""
    for text in _texts(graph):
        if not isinstance(text, str):
            raise ModelError(f"the model has a name that is not UTF-8: {text!r}")


def _texts(graph: onnx.GraphProto) -> Iterator[object]:
    yield graph.name
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (d.dim_param for d in value.type.tensor_type.shape.dim)
    for tensor in graph.initializer:
        yield tensor.name
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (text for a in node.attribute for text in (a.name, a.ref_attr_name))
        for subgraph in subgraphs(node):
            yield from _texts(subgraph)


def _given_names(graph: onnx.GraphProto) -> set[str]:
    """Inputs and initializers; an initializer may also be listed as an input (old IR)."""
    if graph.sparse_initializer:
        names = [s.values.name for s in graph.sparse_initializer]
        raise ModelError(f"sparse initializers {names}; accepted: dense ones")
    inputs = [i.name for i in graph.input]
    initializers = [i.name for i in graph.initializer]
    _unique("input", inputs)
    _unique("initializer", initializers)
    _unique("output", [o.name for o in graph.output])
    if "" in inputs or "" in initializers or "" in [o.name for o in graph.output]:
        raise ModelError("an input, output or initializer of the graph has no name")
    return {*inputs, *initializers}


def _unique(kind: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(f"two graph {kind}s are named {name!r}")
        seen.add(name)


def _producers(graph: onnx.GraphProto, given: set[str]) -> dict[str, int]:
    """The index of the node that defines each value."""
    producer: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in producer or name in given:
                raise ModelError(f"{describe(node)} defines {name!r}, which is defined already")
            producer[name] = index
    return producer


def _check_uses(graph: onnx.GraphProto, known: set[str], outside: Container[str]) -> None:
    missing = [
        f"{describe(node)} reads {name!r}, which nothing produces"
        for node in graph.node
        for name in sorted(reads(node))
        if name not in known and name not in outside
    ]
    missing += [
        f"output {o.name!r} is produced by nothing"
        for o in graph.output
        if o.name not in known and o.name not in outside
    ]
    if missing:
        raise ModelError("dangling graph: " + "\n".join(missing))


def _sorted(nodes: Sequence[onnx.NodeProto], producer: dict[str, int]) -> list[onnx.NodeProto]:
    """Kahn's algorithm; among ready nodes the first in the file comes first."""
    waits = [{producer[name] for name in reads(node) if name in producer} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, sources in enumerate(waits):
        for source in sorted(sources):
            readers[source].append(index)
    left = [len(sources) for sources in waits]
    ready = [index for index, count in enumerate(left) if count == 0]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for reader in readers[index]:
            left[reader] -= 1
            if left[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = [describe(nodes[i]) for i, count in enumerate(left) if count > 0]
        raise ModelError(f"the graph has a cycle through or before {_some(stuck)}")
    return order


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def describe(node: onnx.NodeProto) -> str:
    """`Conv node 'features.3.0'`; a node without a name goes by its first output."""
    return f"{node.op_type} node {_node_name(node.name, node.output)!r}"


def _node_name(name: str, outputs: Iterable[str]) -> str:
    return name or next(filter(None, outputs), "(unnamed)")
