"""Fold nodes whose operands are all constant: exporters' arithmetic on shapes, mostly.

The meaning is onnx.reference on a model of this one node. The size of the result is bounded by
shape inference before anything is computed, as `Expand` of a tiny file may ask for terabytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx.reference import ReferenceEvaluator

from qcomp.errors import ModelError
from qcomp.frontends.limits import MAX_RESULT_ELEMENTS, Refused
from qcomp.frontends.onnx.context import Node
from qcomp.frontends.onnx.grids import folded
from qcomp.frontends.onnx.infer import InferredType, inferred_types, node_types, one_node_model
from qcomp.frontends.onnx.structure import describe
from qcomp.frontends.onnx.tensors import decode_tensor
from qcomp.ir.tensor import Array

_NOT_FOLDABLE = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_RESULT_WITHIN_INPUTS = {"Compress", "NonZero", "Unique"}  # data decides their shape
_KINDS = "iufb"

# What onnx.reference computes by whole arrays; others it may compute element by element.
_QUICK = """
    Abs Add And Cast CastLike Ceil Clip Concat ConstantOfShape Cos DequantizeLinear Div Equal Exp
    Expand Flatten Floor Gather Gemm Greater GreaterOrEqual Identity Less LessOrEqual Log MatMul
    Max Min Mod Mul Neg Not Or Pad Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum Reshape Round Sigmoid Sign Sin Slice Split Sqrt Squeeze Sub Sum
    Tanh Tile Transpose Trilu Unsqueeze Where
"""
_SLOW_EFFORT = 64

# Whatever onnx.reference raises on operands that do not fit, short of a defect of ours.
_REFERENCE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def fold(node: Node) -> bool:
    """Record the node's results as constants; False if they depend on activations."""
    if node.op_type in ("Shape", "Size"):
        _record(node, [_shape_or_size(node)])
        return True
    if node.op_type == "Constant":
        _record(node, [_constant(node)])
        return True
    inputs = {name: node.context.constants.get(name) for name in node.proto.input if name}
    known = {name: data for name, data in inputs.items() if data is not None}
    if node.op_type == "CastLike" and known.keys() == {node.proto.input[0]}:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(node.element_type(1))
        _record(node, [known[node.proto.input[0]].astype(dtype)])
        return True
    if any(data.size == 0 for data in known.values()) and _record_empty(node):
        return True
    if len(known) < len(inputs) or not known or node.op_type in _NOT_FOLDABLE:
        return False
    if node.op_type == "Identity" and node.proto.input[0] in node.context.integers:
        node.context.integers[node.proto.output[0]] = node.context.integers[node.proto.input[0]]
    grid = folded(node) if node.op_type in ("QuantizeLinear", "DequantizeLinear") else None
    _record(node, _evaluated(node, known) if grid is None else [grid])
    return True


def _record(node: Node, results: list[Array]) -> None:
    for name, data in zip(node.proto.output, results, strict=False):
        if name:
            node.context.constants[name] = data


def _record_empty(node: Node) -> bool:
    """What has no elements is constant, whatever the operands hold."""
    types = node_types(node.proto, node.context)
    results = [name for name in node.proto.output if name]
    if any(name not in types or types[name].size for name in results):
        return False
    for name in results:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(types[name].element_type)
        node.context.constants[name] = np.zeros(types[name].shape, dtype)
    return True


def _shape_or_size(node: Node) -> Array:
    name = node.proto.input[0]
    constant = node.context.constants.get(name)
    shape = node.shape() if constant is None else constant.shape
    if node.op_type == "Size":
        return np.array(int(np.prod(shape, dtype=np.int64)), np.int64)
    last = len(shape) if "end" not in node.attributes else node.integer("end")
    return np.array(shape[node.integer("start", 0) : last], np.int64)


def _constant(node: Node) -> Array:
    if len(node.attributes) != 1:
        raise ModelError(f"{describe(node.proto)} must have exactly one value")
    ((name, value),) = node.attributes.items()
    match name:
        case "value" if isinstance(value, onnx.TensorProto):
            return decode_tensor(value, node.context.folder, describe(node.proto))
        case "value_float":
            return np.array(node.number(name, 0.0), np.float32)
        case "value_floats":
            return np.array(node.numbers(name), np.float32)
        case "value_int":
            return np.array(node.integer(name), np.int64)
        case "value_ints":
            return np.array(node.integers(name), np.int64)
        case _:
            raise Refused(f"constant given as {name}", "value, value_float(s), value_int(s)")


def _evaluated(node: Node, inputs: Mapping[str, Array]) -> list[Array]:
    model = _one_node_model(node, inputs)
    try:
        _check_size(node, model, inputs)
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, dict(inputs))
    except _REFERENCE_ERRORS as error:
        raise Refused(f"its constant operands can't be evaluated: {error}") from error
    results = [_widened(data) for data in results]
    for data in results:
        if not isinstance(data, np.ndarray | np.generic) or data.dtype.kind not in _KINDS:
            raise Refused("its constant result is no tensor of numbers")
        if data.size > MAX_RESULT_ELEMENTS:
            raise Refused(f"its constant result has {data.size} elements")
    return [np.asarray(data) for data in results]


def _widened(data: object) -> object:
    """bfloat16, which numpy does not know, as float32."""
    name = str(getattr(data, "dtype", ""))
    return np.asarray(data).astype(np.float32) if name == "bfloat16" else data


def _one_node_model(node: Node, inputs: Mapping[str, Array]) -> onnx.ModelProto:
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    for a in proto.attribute:
        if a.type == onnx.AttributeProto.TENSOR:
            data = decode_tensor(a.t, node.context.folder, describe(node.proto))
            a.t.CopyFrom(onnx.numpy_helper.from_array(data))
    types = {
        name: InferredType(onnx.helper.np_dtype_to_tensor_dtype(data.dtype), data.shape)
        for name, data in inputs.items()
    }
    return one_node_model(proto, types, node.opset)


def _check_size(node: Node, model: onnx.ModelProto, inputs: Mapping[str, Array]) -> None:
    """Refuse results that are too large, or whose size is not known beforehand."""
    if node.op_type in _RESULT_WITHIN_INPUTS:
        return
    types = inferred_types(model, inputs)
    for name in filter(None, node.proto.output):
        node.require(
            name in types, "the size of its constant result is not known before it is computed"
        )
        effort = 1 if node.op_type in _QUICK.split() else _SLOW_EFFORT
        node.context.folding.take(types[name].size, effort)
