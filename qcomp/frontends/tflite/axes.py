"""Axes that operators name, negative ones counted from the end."""

from __future__ import annotations

from qcomp.frontends.tflite.context import Node


def axis_of(node: Node, axis: int, rank: int) -> int:
    """Non-negative; Refused where the operand has none such."""
    node.require(-rank <= axis < rank, f"axis {axis} of an operand of rank {rank}")
    return axis % rank


def distinct_axes(node: Node, index: int, rank: int) -> tuple[int, ...]:
    """Those of a constant operand, in order, each once."""
    given = node.integer_list(index, "the axes")
    return tuple(sorted({axis_of(node, a, rank) for a in given}))
