"""Squares that steep functions read have 32 bits, with their sums: they range over many decades.

The power of a signal of 16 bits has 32. In 16 it would be 0 for all that is quieter than 1/256 of
the loudest, and a logarithm, a root, a power below 1 or a divisor tells just these values apart.
So squares, and what sums, layers, clamps, roots and movements make of them on the way to such a
function, have 32 bits. What is squared has 16: steep.py says so.

Measured on spectra, mel bands and their logarithms and roots: 24 bits fall short where values
range over four decades of amplitude (10 to 19 dB of the features, 32 bits 32 to 38), and 16 for
what is squared are as good as 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Add,
    AveragePool2d,
    Clamp,
    Div,
    Function,
    Mul,
    Op,
    Reduce,
    Reduction,
    Unary,
    Weighted,
)
from qcomp.ir.tensor import TensorId
from qcomp.recipes.steep import copied_from, steep_operands


@dataclass(frozen=True)
class Decades:
    """`sums`: the activations that need 32 bits; `sources`: those that have 16, since squares are
    of them, with the inputs of the layers that they come from. Both in the graph's order.
    """

    sums: list[TensorId]
    sources: list[TensorId]


def read_over_decades(graph: Graph) -> Decades:
    sums = _sums(graph)
    sources = {x for t in sums for x in _squared_from(graph, t, sums)}
    return Decades(*([t.id for t in graph.tensors() if t.id in found] for found in (sums, sources)))


def _squared_from(graph: Graph, id: TensorId, sums: set[TensorId]) -> Iterator[TensorId]:
    """What a sum is made of that is none, back to the inputs of layers."""
    op = graph.producer(id)
    for x in () if op is None else graph.activations(op):
        for t in copied_from(graph, x) if x not in sums else ():
            yield t
            layer = graph.producer(t)
            if isinstance(layer, Weighted):
                yield from copied_from(graph, layer.x)


def _sums(graph: Graph) -> set[TensorId]:
    squares = _of_squares(graph)
    found: set[TensorId] = set()
    for op in graph.ops():
        waiting = [t for t in _steep(op) if t in squares]
        while waiting:
            t = waiting.pop()
            if t not in found and _is_inside(graph, t):
                found.add(t)
                producer = graph.producer(t)
                assert producer is not None, "a square is computed"
                waiting += [x for x in producer.inputs if x in squares]
    return found


def _steep(op: Op) -> tuple[TensorId, ...]:
    """Of normalisations, which square by themselves, none; of a quotient both sides."""
    if isinstance(op, Div):
        return op.inputs
    return steep_operands(op) if isinstance(op, Unary) else ()


def _of_squares(graph: Graph) -> set[TensorId]:
    """Squares, and what is computed of them by ops that know sums of 32 bits."""
    found: set[TensorId] = set()
    for op in graph.ops():
        if _squares(op) or (_is_passed(op) and any(t in found for t in op.inputs)):
            found.add(op.output)
    return found


def _squares(op: Op) -> bool:
    match op:
        case Mul(inputs=(a, b)):
            return a == b
        case Unary(function=Function.POW, alpha=2.0):
            return True
        case _:
            return False


def _is_passed(op: Op) -> bool:
    """Whether an op gives 32 bits where it reads them."""
    match op:
        case Add() | Clamp() | Weighted() | AveragePool2d():
            return True
        case Unary():
            return op.function in (Function.AFFINE, Function.SQRT) or (
                op.function is Function.POW and 0.0 < op.alpha < 1.0
            )
        case Reduce():
            return op.kind in (Reduction.SUM, Reduction.MEAN)
        case _:
            return op.copies_integers and len(op.inputs) == 1


def _is_inside(graph: Graph, id: TensorId) -> bool:
    """Whether all that reads a tensor knows 32 bits, and it is no output."""
    readers = graph.consumers(id)
    return not graph.is_output(id) and all(
        _is_passed(op) or isinstance(op, Unary | Div) for op in readers
    )
