"""Edits that the layout rewrites share: moving a value's axes, redirecting readers, cleaning up."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Reshape, Transpose
from qcomp.ir.tensor import Mark, TensorId
from qcomp.passes.lib.layout.permutation import Permutation, Shape, after, identity


def transposed(graph: Graph, value: TensorId, permutation: Permutation, name: str) -> TensorId:
    """Transpose(value, permutation), without an op where one is not needed."""
    if permutation == identity(len(permutation)):
        return value
    tensor = graph.tensor(value)
    origin = None if tensor.origin is None else tensor.origin.permuted(permutation)
    if tensor.data is not None:
        return graph.add_constant(name, np.transpose(tensor.data, permutation), origin)
    producer = graph.producer(value)
    if isinstance(producer, Transpose):
        return transposed(graph, producer.x, after(producer.permutation, permutation), name)
    for reader in graph.consumers(value):
        if isinstance(reader, Transpose) and reader.permutation == permutation:
            return reader.output
    return graph.add_op(
        Transpose(inputs=(value,), output=graph.fresh_id(name), permutation=permutation), origin
    )


def reshaped(graph: Graph, value: TensorId, shape: Shape, name: str) -> TensorId:
    """Reshape(value, shape), without an op where one is not needed."""
    tensor = graph.tensor(value)
    if tensor.type.shape == shape:
        return value
    origin = None if tensor.origin is None else tensor.origin.marked(Mark.RESHAPED)
    if tensor.data is not None:
        return graph.add_constant(name, tensor.data.reshape(shape), origin)
    return graph.add_op(Reshape(inputs=(value,), output=graph.fresh_id(name), shape=shape), origin)


def redirect(graph: Graph, old: TensorId, new: TensorId) -> bool:
    """Let the readers of `old` read `new`; False where that would lose an output's own op.

    An output must be the result of an op: never an input, a constant or another output's tensor.
    """
    if graph.is_output(old) and (graph.producer(new) is None or graph.is_output(new)):
        return False
    graph.replace_uses(old, new)
    erase_unused(graph, [old])
    return True


def erase_unused(graph: Graph, values: Iterable[TensorId]) -> None:
    """Erase these values where nothing reads them, and what only they needed.

    Passes decide by the number of readers, so a dead op must not stay until the next sweep.
    """
    inputs = set(graph.inputs.values())
    queue = list(values)
    while queue:
        value = queue.pop()
        if value not in graph or value in inputs:
            continue
        if graph.is_output(value) or graph.consumers(value):
            continue
        producer = graph.producer(value)
        graph.erase(value)
        queue += producer.inputs if producer is not None else ()
