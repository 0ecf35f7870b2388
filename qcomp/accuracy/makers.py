"""What is known of the values of an output by the ops that make them, whatever was measured.

The scores of a class that no sample shows stay near zero, but they are made by the same sigmoid as
those of the others and mean the same. What a sigmoid makes and what a convolution makes mean two
things, however near their ranges are.
"""

from __future__ import annotations

import numpy as np

from qcomp.ir.evaluate import apply
from qcomp.ir.graph import Graph
from qcomp.ir.ops import UP_TO_ONE, LogSoftmax, Op, Softmax, Unary
from qcomp.ir.tensor import Array, TensorId


def makers(graph: Graph, output: TensorId) -> Array:
    """Of each element of a float tensor a number above 0 for the function up to 1 that makes it.

    0: of what other ops make. Functions are found behind ops that only move their values.
    """
    numbers: dict[str, int] = {}
    known: dict[TensorId, Array] = {}
    for op in _copying(graph, output):
        for id in graph.activations(op):
            known.setdefault(id, _made(graph, id, numbers))
        known[op.output] = np.abs(apply(graph, op, known))
    return known[output] if output in known else _made(graph, output, numbers)


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


def _made(graph: Graph, id: TensorId, numbers: dict[str, int]) -> Array:
    name = _function_up_to_one(graph.producer(id))
    number = 0 if name is None else numbers.setdefault(name, len(numbers) + 1)
    return np.full(graph.type(id).shape, number, np.float32)


def _function_up_to_one(op: Op | None) -> str | None:
    match op:
        case LogSoftmax():
            return None
        case Softmax():
            return op.mnemonic
        case Unary() if op.function in UP_TO_ONE:
            return op.function.value
        case _:
            return None
