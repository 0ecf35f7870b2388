"""Operators of floats that are spelt out in simpler ones: triangles and running sums.

Where all operands are constant a node is folded as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.expansion import Expansion, Nodes, Source

_MOST_SUMMED = 2048  # elements along an axis: each takes a column of weights


def trilu(s: Source) -> Nodes:
    """The operand times 0 and 1."""
    shape = s.shape(0)
    if len(shape) < 2:
        raise Refused(f"an operand of rank {len(shape)}", "matrices")
    k = int(s.number(1, "the diagonal", 0))
    ones = np.ones(shape[-2:], np.float32)
    mask = np.triu(ones, k) if s.integer("upper", 1) else np.tril(ones, k)
    return [make_node("Mul", [s.input(0), s.given("mask", mask)], [s.output])]


def cum_sum(s: Source) -> Nodes:
    """A product with a triangle of ones, along the last axis."""
    shape = s.shape(0)
    axis = int(s.number(1, "the axis", 0))
    if not -len(shape) <= axis < len(shape):
        raise Refused(f"axis {axis} of rank {len(shape)}")
    axis %= len(shape)
    extent = shape[axis]
    if extent > _MOST_SUMMED:
        raise Refused(f"an axis of {extent} elements", f"up to {_MOST_SUMMED}")
    summed = np.tri(extent, k=-s.integer("exclusive", 0), dtype=np.float32).T
    weight = s.given("triangle", summed[::-1, ::-1] if s.integer("reverse", 0) else summed)
    if axis == len(shape) - 1:
        return [make_node("MatMul", [s.input(0), weight], [s.output])]
    swap = list(range(len(shape)))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    last, sums = s.name("last"), s.name("sums")
    return [
        make_node("Transpose", [s.input(0)], [last], perm=swap),
        make_node("MatMul", [last, weight], [sums]),
        make_node("Transpose", [sums], [s.output], perm=swap),
    ]


def unless_constant(expansion: Expansion) -> Expansion:
    """A node whose operands are known is folded as it is."""

    def chosen(s: Source) -> Nodes:
        known = all(name in s.context.constants for name in s.proto.input if name)
        return [s.proto] if known else expansion(s)

    return chosen


SPELLED: Mapping[tuple[str, str], Expansion] = {
    ("", "CumSum"): unless_constant(cum_sum),
    ("", "Trilu"): unless_constant(trilu),
}
