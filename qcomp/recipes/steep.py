"""What steep functions are of has 16 bits: the sum of a layer or of a reduction, and what follows.

A square root, a logarithm, a reciprocal, a divisor and a power below 1 tell values apart that
differ by orders of magnitude. Of the 256 inputs of a table most are in the flat part, and rounding
the rest to 8 bits moves the result by many of its steps. So what such a function is of has 16 bits,
back to the layer, the reduction or the input that it comes from: sums are rounded to 16 bits
instead of 8. Squares need them as well, and the results of the function where products or quotients
read them, such as the reciprocal of a norm. A normalisation divides each group of values by their
own size. A logarithm tells all sizes apart, so that the inputs
of the layers that it comes from have 16 bits too.

A tensor on the way that something else reads too, as a residual stream, keeps its bits.
"""

from __future__ import annotations

from collections.abc import Iterator

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Binary,
    Clamp,
    Div,
    Function,
    LogPower,
    Mul,
    Normalize,
    Op,
    PRelu,
    Reduce,
    Unary,
    Weighted,
)
from qcomp.ir.tensor import TensorId

_STEEP = (Function.LOG, Function.SQRT, Function.RECIPROCAL)


def read_steeply(graph: Graph) -> list[TensorId]:
    """The activations that need 16 bits because of such functions, in the graph's order."""
    found: set[TensorId] = set()
    for op in graph.ops():
        operands = [t for t in steep_operands(op) if not graph.is_constant(t)]
        if operands:
            results = tuple(_results(graph, op))
            found |= {*_computed_from(graph, op, operands, results), *results}
    return [tensor.id for tensor in graph.tensors() if tensor.id in found]


def steep_operands(op: Op) -> tuple[TensorId, ...]:
    """The operands that an op tells apart by orders of magnitude."""
    match op:
        case LogPower():
            return op.inputs
        case Div():
            return (op.b,)
        case Normalize():
            return (op.x,)
        case Unary(function=Function.POW) if op.alpha < 1.0:
            return (op.x,)
        case Unary() if op.function in _STEEP:
            return (op.x,)
        case _:
            return ()


def _results(graph: Graph, op: Op) -> Iterator[TensorId]:
    """The result of a function of one value, and of functions of it, where products read them."""
    readers = graph.consumers(op.output)
    inside = isinstance(op, Unary) and not graph.is_output(op.output)
    if inside and readers and all(isinstance(reader, Unary | Mul | Div) for reader in readers):
        yield op.output
        for reader in readers:
            yield from _results(graph, reader)


def _computed_from(
    graph: Graph, op: Op, operands: list[TensorId], results: tuple[TensorId, ...]
) -> set[TensorId]:
    """The operands, and what they are computed from, elementwise or by sums.

    All that read a tensor on the way must be of this computation, or read its results.
    """
    inside = {op.id, *(reader.id for t in results for reader in graph.consumers(t))}
    found: set[TensorId] = set()
    waiting = list(dict.fromkeys(operands))
    while ready := [t for t in waiting if t in operands or _reads(graph, t) <= inside]:
        waiting = [t for t in waiting if t not in ready]
        for t in ready:
            producer = graph.producer(t)
            if t in found or graph.is_output(t):
                continue
            found.add(t)
            if isinstance(producer, Weighted) and _is_log(op):
                found.update(copied_from(graph, producer.x))
            elif producer is not None and _is_passed(producer):
                inside.add(producer.id)
                waiting += graph.activations(producer)
    return found


def _reads(graph: Graph, id: TensorId) -> set[TensorId]:
    return {op.id for op in graph.consumers(id)}


def _is_log(op: Op) -> bool:
    return isinstance(op, LogPower) or (isinstance(op, Unary) and op.function is Function.LOG)


def _is_passed(op: Op) -> bool:
    """Whether the operands of an op need the bits that its result has."""
    if op.copies_integers:
        return len(op.inputs) == 1
    return isinstance(op, Unary | Clamp | PRelu | Binary | Reduce)


def copied_from(graph: Graph, id: TensorId) -> Iterator[TensorId]:
    """A tensor, and those that it is copied from."""
    yield id
    op = graph.producer(id)
    if op is not None and op.copies_integers:
        for x in graph.activations(op):
            yield from copied_from(graph, x)
