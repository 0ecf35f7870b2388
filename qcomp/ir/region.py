"""Parts of a graph as graphs of their own: inputs, outputs and ops go by tensor ids.

    extract       a convex set of ops: what a target compiles
    between       what computes some tensors from others: what a trial runs again
    with_outputs  the whole graph up to some tensors: what a measurement watches

A set of ops is convex if no path leaves it and comes back. Only then can it run in one go, between
the ops before it and those behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import TensorId


class RegionError(ValueError):
    """Ops or tensors that can't be a graph of their own."""


def extract(graph: Graph, ops: Collection[TensorId]) -> Graph:
    """The ops with these ids. Inputs are the activations that they read from outside; outputs the
    results that are read outside or are outputs of the graph.

    RegionError, with the path, if the ops are not convex.
    """
    chosen = {op.id for op in _ops(graph, ops)}
    if path := _path_out_and_back(graph, chosen):
        line = " -> ".join(f"%{id}" for id in path)
        raise RegionError(f"the ops are not convex: {line} leaves them and comes back")
    read = {t for id in chosen for t in graph.activations(graph.op(id))}
    outputs = [
        id
        for id in chosen
        if graph.is_output(id) or any(op.id not in chosen for op in graph.consumers(id))
    ]
    return _assembled(graph, chosen, read - chosen, outputs)


def between(graph: Graph, given: Iterable[TensorId], wanted: Iterable[TensorId]) -> Graph:
    """The ops that compute `wanted` from `given`; those of `given` that they need are the inputs.

    Given tensors that depend on one another are all taken as they are given, so the ops need not
    be convex. RegionError where an input of the graph is needed but not given.
    """
    outputs = list(wanted)
    needs = needed(graph, set(given), outputs)
    return _assembled(graph, needs.ops, needs.given, [t for t in outputs if t in needs.ops])


def with_outputs(graph: Graph, ids: Iterable[TensorId]) -> Graph:
    """The graph with these results as its outputs, without what none of them needs; all inputs
    stay. It is one run by itself: nothing is done to its ends outside, and no state is kept.
    """
    watched = graph.clone()
    watched.inputs = {id: id for id in graph.inputs.values()}
    watched.outputs = {op.id: op.output for op in _ops(graph, ids)}
    watched.conversions, watched.tails, watched.states = {}, {}, {}
    watched.sweep()
    return watched


@dataclass(frozen=True)
class Needs:
    """What tensors follow from: the ops that compute them, and the given tensors these read."""

    ops: Set[TensorId]
    given: Set[TensorId]


def needed(graph: Graph, given: Set[TensorId], wanted: Iterable[TensorId]) -> Needs:
    """What `wanted` needs, back to `given`; RegionError where that leaves a tensor open."""
    ops: set[TensorId] = set()
    read: set[TensorId] = set()
    waiting = list(wanted)
    while waiting:
        id = waiting.pop()
        if id in ops or id in read or graph.is_constant(id):
            continue
        op = graph.producer(id)
        if id in given:
            read.add(id)
        elif op is None:
            raise RegionError(f"%{id} is needed but neither given nor computed")
        else:
            ops.add(id)
            waiting += op.inputs
    return Needs(ops, read)


def _ops(graph: Graph, ids: Iterable[TensorId]) -> list[Op]:
    """The ops with these ids; RegionError for one that does not exist."""
    found = []
    for id in ids:
        op = graph.producer(id)
        if op is None:
            raise RegionError(f"%{id} is no result of an op of @{graph.name}")
        found.append(op)
    return found


def _path_out_and_back(graph: Graph, chosen: set[TensorId]) -> list[TensorId] | None:
    """A path from a chosen op over others to a chosen one, if there is one."""
    before: dict[TensorId, TensorId] = {}
    waiting = [*chosen]
    while waiting:
        id = waiting.pop()
        for op in graph.consumers(id):
            if op.id in chosen and id not in chosen:
                path = [op.id, id]
                while path[-1] not in chosen:
                    path.append(before[path[-1]])
                return path[::-1]
            if op.id not in chosen and op.id not in before:
                before[op.id] = id
                waiting.append(op.id)
    return None


def _assembled(
    graph: Graph, ops: Set[TensorId], inputs: Set[TensorId], outputs: Collection[TensorId]
) -> Graph:
    """The ops in the order of the graph, with their constants."""
    wanted = set(outputs)
    part = Graph(graph.name)
    read = {t for id in ops for t in graph.op(id).inputs}
    for tensor in graph.tensors():
        if tensor.id in inputs:
            part.inputs[tensor.id] = part.add_tensor(tensor)
        elif tensor.is_constant and tensor.id in read:
            part.add_tensor(tensor)
    for op in graph.ops():
        if op.id in ops:
            part.add_op(op)
            part.update_tensor(graph.tensor(op.id))
            if op.id in wanted:
                part.outputs[op.id] = op.id
    return part
