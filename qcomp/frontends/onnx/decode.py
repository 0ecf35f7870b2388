"""One NodeProto to a Node: checked against ONNX's schema, attributes decoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from qcomp.errors import ModelError
from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.context import Attribute, Context, Node
from qcomp.frontends.onnx.structure import describe

_SCHEMA_TYPES = {
    value: getattr(onnx.defs.OpSchema.AttrType, name)
    for name, value in onnx.AttributeProto.AttributeType.items()
    if name != "UNDEFINED"
}
_KINDS: Mapping[str, str] = {
    "GRAPH": "a subgraph",
    "GRAPHS": "a list of subgraphs",
    "TENSORS": "a list of tensors",
    "SPARSE_TENSOR": "a sparse tensor",
    "SPARSE_TENSORS": "a list of sparse tensors",
    "TYPE_PROTO": "a type",
    "TYPE_PROTOS": "a list of types",
}
_ELEMENT_TYPES = frozenset(onnx.TensorProto.DataType.keys())

_DEPRECATED_AFTERWARDS = ("GroupNormalization",)
"""Whose form of the opsets 18 to 20, which models have, was deprecated with the next form."""

_READ_BEFORE = {"LayerNormalization": 17, "RMSNormalization": 23}
"""The opsets that operators came with which ONNX Runtime has in every one."""


def decode_node(context: Context, proto: onnx.NodeProto) -> Node:
    """Check the node against its ONNX schema and decode its attributes."""
    schema = _schema(proto, context.opset)
    for count, what, least, most in (
        (len(proto.input), "inputs", schema.min_input, schema.max_input),
        (len(proto.output), "outputs", schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            raise ModelError(f"{describe(proto)} has {count} {what}; accepted: {least} to {most}")
    if not any(proto.output):
        raise ModelError(f"{describe(proto)} has no outputs")
    attributes: dict[str, Attribute] = {}
    for a in proto.attribute:
        known = schema.attributes.get(a.name)
        if known is None:
            raise Refused(
                f"attribute {a.name} is unknown in opset {context.opset}",
                ", ".join(sorted(schema.attributes)),
            )
        if known.type != _SCHEMA_TYPES.get(a.type) or a.ref_attr_name:
            raise ModelError(f"{describe(proto)}: attribute {a.name} has the wrong type")
        attributes[a.name] = _attribute(a)
    return Node(context, proto, attributes)


def own_node(context: Context, proto: onnx.NodeProto) -> Node:
    """A node of another domain, whose attributes no schema has."""
    if not any(proto.output):
        raise ModelError(f"{describe(proto)} has no outputs")
    return Node(context, proto, {a.name: _attribute(a) for a in proto.attribute})


def result_types(node: Node) -> dict[str, int]:
    """The ONNX element type of each result: that of an operand, or what the operator gives."""
    schema = _schema(node.proto, node.opset)
    known = {c.type_param_str: _only(c.allowed_type_strs) for c in schema.type_constraints}
    for index, name in enumerate(node.proto.input):
        if name:
            kind = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
            known[kind] = node.context.element_type(name)
    if "to" in node.attributes:
        known[schema.outputs[0].type_str] = node.integer("to")
    result = {}
    for index, name in enumerate(node.proto.output):
        kind = schema.outputs[min(index, len(schema.outputs) - 1)].type_str
        result[name] = known.get(kind) or _only([kind])
    return result


def _only(kinds: Sequence[str]) -> int:
    """The element type that is the only one accepted, else FLOAT."""
    names = {kind.removeprefix("tensor(").removesuffix(")").upper() for kind in kinds}
    found = names.pop() if len(names) == 1 else "FLOAT"
    return int(onnx.TensorProto.DataType.Value(found if found in _ELEMENT_TYPES else "FLOAT"))


def _schema(proto: onnx.NodeProto, opset: int) -> onnx.defs.OpSchema:
    try:
        least = _READ_BEFORE.get(proto.op_type, opset)
        schema = onnx.defs.get_schema(proto.op_type, max(opset, least), "")
    except onnx.defs.SchemaError as error:
        raise Refused(f"operator {proto.op_type} is unknown in opset {opset}") from error
    if schema.deprecated and proto.op_type not in _DEPRECATED_AFTERWARDS:
        raise Refused(f"operator {proto.op_type} is no longer part of opset {opset}")
    return schema


def _attribute(a: onnx.AttributeProto) -> Attribute:
    kinds = onnx.AttributeProto
    match a.type:
        case kinds.INT:
            return int(a.i)
        case kinds.FLOAT:
            return float(a.f)
        case kinds.STRING:
            return bytes(a.s).decode("utf-8", "replace")
        case kinds.INTS:
            return tuple(a.ints)
        case kinds.FLOATS:
            return tuple(a.floats)
        case kinds.STRINGS:
            return tuple(bytes(s).decode("utf-8", "replace") for s in a.strings)
        case kinds.TENSOR:
            return a.t
        case _:
            raise Refused(
                f"attribute {a.name} is {_KINDS.get(kinds.AttributeType.Name(a.type), 'unknown')}",
                "numbers, texts and tensors; of subgraphs those of If, Loop and Scan",
            )
