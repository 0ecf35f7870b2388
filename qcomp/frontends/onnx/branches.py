"""The two branches of an If, and which of them a constant condition takes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from qcomp.errors import ModelError
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.structure import describe


@dataclass(frozen=True)
class Branches:
    """`taken` is one of the two; None where the condition depends on an input of the graph."""

    then: onnx.GraphProto
    other: onnx.GraphProto
    taken: onnx.GraphProto | None


def branches_of(context: Context, proto: onnx.NodeProto) -> Branches:
    """The checked branches of an If node."""
    found: dict[str, onnx.GraphProto] = {
        a.name: a.g for a in proto.attribute if a.type == onnx.AttributeProto.GRAPH
    }
    if len(proto.input) != 1 or found.keys() != {"then_branch", "else_branch"}:
        raise ModelError(f"{describe(proto)}: expected one condition and two branches")
    then, other = found["then_branch"], found["else_branch"]
    for branch in (then, other):
        if len(branch.output) != len(proto.output) or branch.input:
            raise ModelError(
                f"{describe(proto)}: a branch of {len(branch.input)} inputs and "
                f"{len(branch.output)} outputs; expected 0 and {len(proto.output)}"
            )
    condition = context.constants.get(proto.input[0])
    if condition is None:
        return Branches(then, other, None)
    if condition.size != 1:
        raise ModelError(f"{describe(proto)}: a condition of {condition.size} elements")
    return Branches(then, other, then if condition.reshape(-1)[0] else other)
