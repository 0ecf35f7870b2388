"""If nodes whose condition is known at compile time."""

from __future__ import annotations

import onnx

from qcomp.errors import ModelError
from qcomp.frontends.onnx.context import Context, Refused
from qcomp.frontends.onnx.structure import describe


def taken_branch(context: Context, proto: onnx.NodeProto) -> onnx.GraphProto:
    """The subgraph that runs; Refused where the condition depends on an input of the graph."""
    branches: dict[str, onnx.GraphProto] = {
        a.name: a.g for a in proto.attribute if a.type == onnx.AttributeProto.GRAPH
    }
    if len(proto.input) != 1 or branches.keys() != {"then_branch", "else_branch"}:
        raise ModelError(f"{describe(proto)}: expected one condition and two branches")
    condition = context.constants.get(proto.input[0])
    if condition is None:
        raise Refused(
            "its condition depends on an input of the graph",
            "a condition that is known at compile time",
        )
    if condition.size != 1:
        raise ModelError(f"{describe(proto)}: a condition of {condition.size} elements")
    branch = branches["then_branch" if condition.reshape(-1)[0] else "else_branch"]
    if len(branch.output) != len(proto.output):
        raise ModelError(
            f"{describe(proto)}: a branch of {len(branch.output)} outputs for {len(proto.output)}"
        )
    return branch
