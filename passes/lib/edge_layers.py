"""The layers where a network begins and ends."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, Weighted
from qcomp.ir.tensor import TensorId


def edge_layers(graph: Graph) -> frozenset[TensorId]:
    """Ids of the layers with weights that no other such layer comes before, or none after.

    A network of several branches has one where each of them begins or ends.
    """
    ops = graph.ops()
    forward = [(op, op.inputs, (op.output,)) for op in ops]
    backward = [(op, (op.output,), op.inputs) for op in reversed(ops)]
    return frozenset([*_outermost(forward), *_outermost(backward)])


def _outermost(
    steps: Sequence[tuple[Op, Sequence[TensorId], Sequence[TensorId]]],
) -> list[TensorId]:
    """The layers that are met before any other; each step goes from some tensors to others."""
    behind: set[TensorId] = set()
    found = []
    for op, before, after in steps:
        inside = any(t in behind for t in before)
        weighted = isinstance(op, Weighted)
        if weighted and not inside:
            found.append(op.id)
        if weighted or inside:
            behind.update(after)
    return found
