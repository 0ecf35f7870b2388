"""How each op works on a value whose axes are held in another order.

A rule says, for an op whose operands have the twist t (see permutation.py): which operands share
it, what twist the result then has, what t must be for a wanted twist of the result, and the op to
use on the held values. Where it can't, it answers with the reason as a string.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from qcomp.ir.exemptions import Exemptions, exemption
from qcomp.ir.graph import Graph
from qcomp.ir.merged import merged
from qcomp.ir.ops import (
    OPS,
    AbsMax,
    ArgMax,
    AxisUse,
    BroadcastTo,
    Concat,
    Domain,
    Gather,
    LogSoftmax,
    Normalize,
    Op,
    Pad,
    Reduce,
    Reshape,
    Slice,
    Softmax,
    Tile,
    Transpose,
)
from qcomp.passes.lib.layout.permutation import Permutation, carried, held

TwistOrReason = Permutation | str


@dataclass(frozen=True)
class Rule:
    """Elementwise: any twist goes through, and the op stays as it is."""

    first_only: bool = False  # later operands are not laid out like the first

    def operands(self, op: Op) -> tuple[int, ...]:
        """Positions of the operands that are laid out like the result (or the one operand)."""
        return (0,) if self.first_only else tuple(range(len(op.inputs)))

    def result_twist(self, graph: Graph, op: Op, twist: Permutation) -> TwistOrReason:
        return twist

    def operand_twist(self, graph: Graph, op: Op, twist: Permutation) -> TwistOrReason:
        return twist

    def twisted(self, op: Op, twist: Permutation) -> Op:
        """The op on held operands; its inputs are set by the caller."""
        return op


class AlongAxis(Rule):
    """An op with one axis."""

    def twisted(self, op: Op, twist: Permutation) -> Op:
        assert isinstance(op, Softmax | Gather | Concat)
        return replace(op, axis=twist[op.axis])


class PerAxis(Rule):
    """An op with a number for each axis."""

    def twisted(self, op: Op, twist: Permutation) -> Op:
        if isinstance(op, Slice):
            starts, sizes, steps = (held(v, twist) for v in (op.starts, op.sizes, op.steps))
            return replace(op, starts=starts, sizes=sizes, steps=steps)
        if isinstance(op, Pad):
            return replace(op, before=held(op.before, twist), after=held(op.after, twist))
        if isinstance(op, Tile):
            return replace(op, repeats=held(op.repeats, twist))
        assert isinstance(op, BroadcastTo)
        return replace(op, shape=held(op.shape, twist))


@dataclass(frozen=True)
class TrailingFixed(Rule):
    """An op that works on its last axes in their order, and on each position of the others."""

    fixed: int = 1

    def result_twist(self, graph: Graph, op: Op, twist: Permutation) -> TwistOrReason:
        rank = len(twist)
        if any(graph.type(op.inputs[i]).rank != rank for i in self.operands(op)):
            return f"{op.mnemonic} has operands of different rank"
        if twist[-self.fixed :] != tuple(range(rank - self.fixed, rank)):
            return f"{op.mnemonic} needs its last {self.fixed} axes in place"
        return twist

    def operand_twist(self, graph: Graph, op: Op, twist: Permutation) -> TwistOrReason:
        return self.result_twist(graph, op, twist)


class Reducing(Rule):
    """An op that reduces axes; without keepdims the result loses them."""

    def result_twist(self, graph: Graph, op: Op, twist: Permutation) -> TwistOrReason:
        axes, keepdims = _reduced(op)
        if keepdims:
            return twist
        left = [twist[i] for i in range(len(twist)) if i not in axes]
        return tuple(sorted(left).index(t) for t in left)

    def operand_twist(self, graph: Graph, op: Op, twist: Permutation) -> TwistOrReason:
        if _reduced(op)[1]:
            return twist
        return f"{op.mnemonic} drops axes, so its result does not tell how they lie"

    def twisted(self, op: Op, twist: Permutation) -> Op:
        if isinstance(op, ArgMax):
            return replace(op, axis=twist[op.axis])
        assert isinstance(op, Reduce)
        return replace(op, axes=tuple(sorted(twist[a] for a in op.axes)))


def _reduced(op: Op) -> tuple[tuple[int, ...], bool]:
    if isinstance(op, ArgMax):
        return (op.axis,), op.keepdims
    assert isinstance(op, Reduce)
    return op.axes, op.keepdims


class Normalizing(Rule):
    """An op with axes that its parameters, which broadcast to the operand, lie along as well."""

    def twisted(self, op: Op, twist: Permutation) -> Op:
        assert isinstance(op, Normalize)
        return replace(op, axes=tuple(sorted(twist[a] for a in op.axes)))


class Reshaping(Rule):
    """A reshape that groups only axes which the held value keeps together."""

    def result_twist(self, graph: Graph, op: Op, twist: Permutation) -> TwistOrReason:
        assert isinstance(op, Reshape)
        return carried(graph.type(op.x).shape, twist, op.shape)

    def operand_twist(self, graph: Graph, op: Op, twist: Permutation) -> TwistOrReason:
        assert isinstance(op, Reshape)
        return carried(op.shape, twist, graph.type(op.x).shape)


def reshape_of_held(op: Reshape, result: Permutation) -> Reshape:
    """A reshape of the held operand; it alone needs the twist of the result."""
    return replace(op, shape=held(op.shape, result))


_BY_USE: Mapping[AxisUse | None, Rule] = {
    AxisUse.NONE: Rule(),
    AxisUse.LAST: TrailingFixed(first_only=True, fixed=1),
    AxisUse.LAST_TWO: TrailingFixed(fixed=2),
}

RULES: Mapping[type[Op], Rule] = merged(
    {cls: _BY_USE[cls.axis_use] for cls in OPS.values() if cls.axis_use in _BY_USE},
    {
        Softmax: AlongAxis(),
        LogSoftmax: AlongAxis(),
        Concat: AlongAxis(),
        Gather: AlongAxis(first_only=True),
        Slice: PerAxis(),
        Pad: PerAxis(),
        Tile: PerAxis(),
        BroadcastTo: PerAxis(),
        Reduce: Reducing(),
        ArgMax: Reducing(),
        Normalize: Normalizing(),
        Reshape: Reshaping(),
    },
)

EXEMPT: Exemptions = {
    Domain.INTEGER: "is made after layouts are settled",
    Domain.BORDER: "is made after layouts are settled",
    Transpose: "is a boundary itself",
    AbsMax: "is made after layouts are settled",
    **{cls: "is defined for one layout" for cls in OPS.values() if cls.axis_use is AxisUse.ALL},
}


def why_fixed(op: Op) -> str:
    """Why an op without a rule keeps its operands' layout."""
    return f"{op.mnemonic} {exemption(EXEMPT, type(op)) or 'has no rule'}"
