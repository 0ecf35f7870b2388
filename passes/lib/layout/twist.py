"""Carry out a choice: the chosen members work on held values, everything else sees no change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, Reshape, Transpose
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.layout.dense import reorder_columns
from qcomp.passes.lib.layout.edit import erase_unused, reshaped, transposed
from qcomp.passes.lib.layout.permutation import Permutation, after, inverse
from qcomp.passes.lib.layout.region import Member, Region
from qcomp.passes.lib.layout.rules import RULES, reshape_of_held


def twist_members(graph: Graph, region: Region, chosen: Sequence[TensorId]) -> None:
    """Replace the chosen ops in place; a value's readers outside get it back by a Transpose.

    Ops keep their ids, so that a layer's name still finds it; its result is then the held value.
    """
    ids = set(chosen)
    held_as: dict[TensorId, Permutation] = {}
    touched: list[TensorId] = []
    for op in [op for op in graph.ops() if op.id in ids]:
        member = region.members[op.id]
        touched += op.inputs
        # Read again: an earlier member may have given a dense layer other weights.
        graph.replace_op(_on_held(graph, graph.op(op.id), member, held_as))
        if member.columns is not None:
            reorder_columns(graph, member.columns)
        else:
            _trace(graph, op.output, member.result)
            held_as[op.output] = member.result
            _restore_for_outside(graph, op.output, member.result, ids)
    erase_unused(graph, touched)


def _trace(graph: Graph, value: TensorId, twist: Permutation) -> None:
    """Its origin is the model's tensor, transposed such that the twist gives back what it was."""
    tensor = graph.tensor(value)
    if tensor.origin is not None:
        origin = tensor.origin.permuted(inverse(twist))
        graph.update_tensor(replace(tensor, origin=origin))


def _on_held(graph: Graph, op: Op, member: Member, held_as: dict[TensorId, Permutation]) -> Op:
    rule = RULES[type(op)]
    inputs = list(op.inputs)
    for i in rule.operands(op):
        t = op.inputs[i]
        inputs[i] = _operand(graph, t, held_as.get(t), member.operand)
    if isinstance(op, Reshape):
        twisted: Op = op if member.columns is not None else reshape_of_held(op, member.result)
    else:
        twisted = rule.twisted(op, member.operand)
    return replace(twisted, inputs=tuple(inputs))


def _operand(
    graph: Graph, value: TensorId, now: Permutation | None, wanted: Permutation
) -> TensorId:
    """The held form of an operand; one of lower rank first gets leading axes of extent 1."""
    shape = graph.type(value).shape
    name = f"{value}.held"
    if now is not None and len(now) == len(wanted):
        return transposed(graph, value, after(now, inverse(wanted)), name)
    if graph.type(value).size == 1:
        return value
    if now is not None:
        value = transposed(graph, value, now, f"{value}.plain")
        shape = graph.type(value).shape
    extended = (1,) * (len(wanted) - len(shape)) + shape
    value = reshaped(graph, value, extended, f"{value}.extended")
    return transposed(graph, value, inverse(wanted), name)


def _restore_for_outside(
    graph: Graph, value: TensorId, twist: Permutation, chosen: set[TensorId]
) -> None:
    """Let readers that are not chosen see the value as before; transposes absorb the twist."""
    outside = [op for op in graph.consumers(value) if op.id not in chosen]
    for op in outside:
        if isinstance(op, Transpose):
            graph.replace_op(replace(op, permutation=after(twist, op.permutation)))
    others = [op for op in outside if not isinstance(op, Transpose)]
    if others or graph.is_output(value):
        plain = transposed(graph, value, twist, f"{value}.plain")
        for op in others:
            graph.set_inputs(op, tuple(plain if t == value else t for t in op.inputs))
        graph.outputs = {name: plain if t == value else t for name, t in graph.outputs.items()}
