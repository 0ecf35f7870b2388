"""What values of an output can reach by the ops that make it, whatever was measured.

The scores of a class that no sample shows stay near zero, but they are made by the same sigmoid as
those of the others and mean the same.
"""

from __future__ import annotations

import numpy as np

from qcomp.ir.evaluate import apply
from qcomp.ir.graph import Graph
from qcomp.ir.ops import UP_TO_ONE, LogSoftmax, Op, Softmax, Unary
from qcomp.ir.tensor import Array, TensorId


def known_magnitude(graph: Graph, output: TensorId) -> Array:
    """Of each element of a float tensor the magnitude that it is known to reach, or 0."""
    known: dict[TensorId, Array] = {}
    for op in _copying(graph, output):
        for id in graph.activations(op):
            known.setdefault(id, _made(graph, id))
        known[op.output] = np.abs(apply(graph, op, known))
    return known.get(output, _made(graph, output))


def _copying(graph: Graph, output: TensorId) -> list[Op]:
    """The ops that only move values on their way to an output, in order."""
    found: set[TensorId] = set()
    waiting = [output]
    while waiting:
        op = graph.producer(waiting.pop())
        if op is not None and op.copies_integers and op.output not in found:
            found.add(op.output)
            waiting += graph.activations(op)
    return [op for op in graph.ops() if op.output in found]


def _made(graph: Graph, id: TensorId) -> Array:
    """By the op that makes a tensor from others."""
    op = graph.producer(id)
    is_function = isinstance(op, Unary) and op.function in UP_TO_ONE
    is_softmax = isinstance(op, Softmax) and not isinstance(op, LogSoftmax)
    shape = graph.type(id).shape
    return np.full(shape, 1.0 if is_function or is_softmax else 0.0, np.float32)
