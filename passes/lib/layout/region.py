"""Regions: the ops around a transpose that could work on its operand's layout instead.

A region grows from one value and its twist along ops that have a rule (rules.py), up and down,
and fixes one twist for each value it reaches. It ends at transposes, at ops of one layout (such
as convolutions), at graph inputs and outputs, where the twist is the identity, and where two ways
would give the same value different twists.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, Reshape, Transpose
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.layout.dense import DenseColumns, absorbing_dense
from qcomp.passes.lib.layout.permutation import Permutation, equivalent, identity
from qcomp.passes.lib.layout.rules import RULES, why_fixed


@dataclass(frozen=True)
class Member:
    """An op that may be twisted: what its operands and its result then have.

    `columns` is set for a reshape in front of dense layers, whose weights absorb the twist.
    """

    operand: Permutation
    result: Permutation
    columns: DenseColumns | None = None


@dataclass
class Region:
    """`blocked` maps ops that stay as they are to the reason."""

    twists: dict[TensorId, Permutation] = field(default_factory=dict)
    members: dict[TensorId, Member] = field(default_factory=dict)
    blocked: dict[TensorId, str] = field(default_factory=dict)


def carriers(graph: Graph, op: Op, twist: Permutation) -> list[TensorId]:
    """The activations that a member reads with its operand twist; others are converted for it."""
    operands = (op.inputs[i] for i in RULES[type(op)].operands(op))
    return [t for t in operands if not graph.is_constant(t) and graph.type(t).rank == len(twist)]


def grow(graph: Graph, seed: TensorId, twist: Permutation) -> Region:
    """Grow the region of ops that can follow when the value `seed` is held with this twist."""
    region = Region()
    queue: deque[TensorId] = deque()
    _reach(graph, region, queue, seed, twist)
    while queue:
        value = queue.popleft()
        producer = graph.producer(value)
        around = graph.consumers(value) if producer is None else [producer, *graph.consumers(value)]
        for op in around:
            if op.id in region.members or isinstance(op, Transpose):
                continue
            member = _member(graph, region, op, value)
            if isinstance(member, str):
                region.blocked[op.id] = member
                continue
            region.blocked.pop(op.id, None)
            region.members[op.id] = member
            if member.columns is None:
                _reach(graph, region, queue, op.output, member.result)
            for t in carriers(graph, op, member.operand):
                _reach(graph, region, queue, t, member.operand)
    return region


def _reach(
    graph: Graph, region: Region, queue: deque[TensorId], value: TensorId, twist: Permutation
) -> None:
    """Fix a value's twist, unless it has one or needs none."""
    if value not in region.twists and twist != identity(len(twist)):
        region.twists[value] = twist
        queue.append(value)


def _member(graph: Graph, region: Region, op: Op, value: TensorId) -> Member | str:
    """The op as a member, reached from one of its values, or why it can't be one."""
    rule = RULES.get(type(op))
    if rule is None:
        return why_fixed(op)
    twist = region.twists[value]
    if value == op.output:
        answer = rule.operand_twist(graph, op, twist)
        if isinstance(answer, str):
            return answer
        twist = answer
        if isinstance(op, Reshape):
            twist = _adapted(graph, region, op.x, twist)
    elif value not in carriers(graph, op, twist):
        return f"{op.mnemonic} broadcasts %{value} to a higher rank"
    result = rule.result_twist(graph, op, twist)
    if isinstance(result, str):
        columns = absorbing_dense(graph, op, twist)
        return Member(twist, twist, columns) if columns is not None else result
    if isinstance(op, Reshape):
        result = _adapted(graph, region, op.output, result)
    for t in carriers(graph, op, twist):
        if conflict := _conflict(region, t, twist):
            return conflict
    return _conflict(region, op.output, result) or Member(twist, result)


def _adapted(graph: Graph, region: Region, value: TensorId, twist: Permutation) -> Permutation:
    """Prefer the permutation that the value has already, if it equals `twist` up to unit axes."""
    known = region.twists.get(value, twist)
    return known if equivalent(graph.type(value).shape, known, twist) else twist


def _conflict(region: Region, value: TensorId, twist: Permutation) -> str | None:
    known = region.twists.get(value, twist)
    if known == twist:
        return None
    return f"%{value} would need the twists {known} and {twist} at once"
