"""Where 8 bits are not enough in transformers: 16 for what is summed up, and for pre-activations.

    the residual stream    sums that a normalisation reads, and what they are sums of: results of
                           layers, looked-up rows, and of normalisations where these are added
    pre-activations        results of dense layers, behind normalisations, that a curve is taken of,
                           and the curve's where products or factors per channel read it
    rotated heads          what queries and keys are computed from between their layers and
                           attention: products with cosines and sines, and their sums

A few channels of the stream are far larger than the others and set its scale, and a normalisation
lifts what is left of these (qcomp/ir/transformer.py). Layers read 8 bits all the same, of
normalisations of their own where others read these too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Add,
    Attention,
    Conv2d,
    Dense,
    Function,
    Mul,
    Normalize,
    Op,
    Reshape,
    ScaleUp,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId
from qcomp.ir.transformer import is_transformer, normalizes_channels


def wide_streams(graph: Graph) -> list[TensorId]:
    """The activations of a transformer that need 16 bits, in the graph's order."""
    if not is_transformer(graph):
        return []
    found = {*_summed(graph), *_curved(graph), *_rotated(graph)}
    return [tensor.id for tensor in graph.tensors() if tensor.id in found]


def _summed(graph: Graph) -> set[TensorId]:
    """What normalisations read, back through sums and movements to what is summed up."""
    found: set[TensorId] = set()
    normalizing = [op for op in graph.ops() if normalizes_channels(graph, op)]
    waiting = [op.x for op in normalizing if isinstance(op, Normalize)]
    while waiting:
        id = waiting.pop()
        if id in found:
            continue
        found.add(id)
        producer = graph.producer(id)
        if isinstance(producer, Add | Sub) or (producer is not None and producer.copies_integers):
            waiting += graph.activations(producer)
    return found


def _rotated(graph: Graph) -> set[TensorId]:
    """From the operands of the last sums or products before attention back to the layers."""
    attending = [op for op in graph.ops() if isinstance(op, Attention)]
    found: set[TensorId] = set()
    for narrow in {id for op in attending for id in (op.q, op.k)}:
        waiting, wide = [narrow], list[TensorId]()
        while waiting:
            producer = graph.producer(waiting.pop())
            if _is_arithmetic(producer):
                wide += graph.activations(producer)
            elif producer is not None and producer.copies_integers:
                waiting += graph.activations(producer)
        while wide:
            id = wide.pop()
            producer = graph.producer(id)
            if id in found or producer is None:
                continue
            found.add(id)
            if _is_arithmetic(producer) or producer.copies_integers:
                wide += graph.activations(producer)
    return found


def _is_arithmetic(op: Op | None) -> TypeGuard[Op]:
    return isinstance(op, Add | Mul | Sub) or (
        isinstance(op, Unary) and op.function in (Function.AFFINE, Function.NEG)
    )


def _curved(graph: Graph) -> Iterator[TensorId]:
    for op in graph.ops():
        if not isinstance(op, Unary) or op.function is Function.AFFINE:
            continue
        if not isinstance(_moved_from(graph, op.x), Dense | ScaleUp) or graph.is_output(op.output):
            continue
        yield op.x
        readers = list(_readers(graph, op.output))
        if any(isinstance(reader, Mul) or _is_factor(graph, reader) for reader in readers):
            yield op.output
        for reader in readers:
            if isinstance(reader, Mul):
                yield from graph.activations(reader)
                if any(_is_factor(graph, behind) for behind in _readers(graph, reader.output)):
                    yield reader.output


def _moved_from(graph: Graph, id: TensorId) -> Op | None:
    op = graph.producer(id)
    while isinstance(op, Reshape):
        op = graph.producer(op.x)
    return op


def _readers(graph: Graph, id: TensorId) -> Iterator[Op]:
    for op in graph.consumers(id):
        yield from _readers(graph, op.output) if isinstance(op, Reshape) else (op,)


def _is_factor(graph: Graph, op: Op) -> bool:
    """Whether an op is a factor for each channel."""
    return isinstance(op, Conv2d) and graph.type(op.weight).shape == (op.groups, 1, 1, 1)
