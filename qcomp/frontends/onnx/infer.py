"""ONNX's own shape inference for one node at a time.

It bounds the results of constant folding before anything is computed, and tells what a refused node
would have given, so that the nodes after it are looked at too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
from google.protobuf.message import DecodeError, EncodeError

from qcomp.frontends.limits import MAX_RANK
from qcomp.frontends.onnx.context import Context
from qcomp.ir.tensor import Array

_SHAPE_OPERAND_ELEMENTS = 1024  # larger operands are passed by type only
_INFERENCE_ERRORS = (
    onnx.shape_inference.InferenceError,
    DecodeError,
    EncodeError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class InferredType:
    """ONNX element type and static shape."""

    element_type: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def one_node_model(
    proto: onnx.NodeProto, types: Mapping[str, InferredType], opset: int
) -> onnx.ModelProto:
    """A model of only this node, whose inputs have the given types."""
    inputs = [
        onnx.helper.make_tensor_value_info(name, type.element_type, type.shape)
        for name, type in types.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "one", inputs, outputs)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def inferred_types(
    model: onnx.ModelProto, constants: Mapping[str, Array]
) -> dict[str, InferredType]:
    """Types of the model's outputs; outputs whose type onnx can't infer are left out."""
    if any(_unsafe(node) for node in model.graph.node):
        return {}
    known = onnx.ModelProto()
    known.CopyFrom(model)
    try:
        known.graph.initializer.extend(
            onnx.numpy_helper.from_array(data, name)
            for name, data in constants.items()
            if data.size <= _SHAPE_OPERAND_ELEMENTS
        )
        inferred = onnx.shape_inference.infer_shapes(known)
    except _INFERENCE_ERRORS:
        return {}
    types = {}
    for value in inferred.graph.output:
        tensor = value.type.tensor_type
        dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        known_rank = tensor.HasField("shape") and len(dims) <= MAX_RANK
        if known_rank and min(dims, default=0) >= 0:
            types[value.name] = InferredType(tensor.elem_type, dims)
    return types


def node_types(proto: onnx.NodeProto, context: Context) -> dict[str, InferredType]:
    """The types of a node's results, from its operands of so far."""
    names = list(filter(None, proto.input))
    constants = {n: context.constants[n] for n in names if n in context.constants}
    types = {n: InferredType(context.element_type(n), context.shape(n)) for n in names}
    return inferred_types(one_node_model(proto, types, context.opset), constants)


def _unsafe(node: onnx.NodeProto) -> bool:
    """Whether onnx's inference would index beyond a list, which ends the process, or look for the
    other two dots of an ellipsis for ever.
    """
    attributes = {a.name: a for a in node.attribute}
    match node.op_type:
        case "Split":
            given = attributes.get("num_outputs")
            return given is not None and given.i != len(node.output)
        case "GatherND":
            return "batch_dims" in attributes and attributes["batch_dims"].i < 0
        case "Einsum":
            return "equation" in attributes and b"." in attributes["equation"].s
        case _:
            return False
