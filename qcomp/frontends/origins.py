"""Origins of values that an importer moved to the IR's layout and back."""

from __future__ import annotations

from dataclasses import replace

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Reshape, Transpose
from qcomp.ir.tensor import Mark, Origin, TensorId


def trace_moves(graph: Graph) -> None:
    """Give what transposes and reshapes read or make the origin of their other side.

    The result of a convolution stands in NHWC before the transpose whose result the model names.
    """
    for op in reversed(graph.ops()):
        result = graph.tensor(op.output).origin
        if result is not None and isinstance(op, Transpose | Reshape):
            back = _inverse(op.permutation) if isinstance(op, Transpose) else None
            _set(graph, op.inputs[0], _moved(result, back))
    for op in graph.ops():
        if isinstance(op, Transpose | Reshape):
            operand = graph.tensor(op.inputs[0]).origin
            there = op.permutation if isinstance(op, Transpose) else None
            _set(graph, op.output, None if operand is None else _moved(operand, there))


def _moved(origin: Origin, permutation: tuple[int, ...] | None) -> Origin:
    """Of the transposed tensor; None: of the reshaped one."""
    return origin.marked(Mark.RESHAPED) if permutation is None else origin.permuted(permutation)


def _set(graph: Graph, id: TensorId, origin: Origin | None) -> None:
    tensor = graph.tensor(id)
    if tensor.origin is None:
        graph.update_tensor(replace(tensor, origin=origin))


def _inverse(permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(permutation.index(axis) for axis in range(len(permutation)))
