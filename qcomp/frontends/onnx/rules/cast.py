"""Cast and CastLike. Truth values and integers are floats in the graph, as all others are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import TensorProto

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.rules.logic import differs
from qcomp.frontends.onnx.tensors import element_type_name
from qcomp.ir.ops import Function, Mul, Unary
from qcomp.ir.tensor import DType, TensorId

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
INTEGERS = (
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
)
_INDICES = (TensorProto.INT32, TensorProto.INT64)


def cast(node: Node) -> None:
    _cast_to(node, node.integer("to"))


def cast_like(node: Node) -> None:
    _cast_to(node, node.element_type(1))


def _cast_to(node: Node, target: int) -> None:
    """Floats to integers are truncated; anything but 0 is true."""
    accepted: Sequence[int] = (*FLOATS, *INTEGERS, TensorProto.BOOL)
    if node.type().dtype is not DType.F32:  # the indices that ArgMax gives
        accepted = _INDICES
    node.require(
        target in accepted,
        f"a cast of {element_type_name(node.element_type(0))} to {element_type_name(target)}",
        ", ".join(map(element_type_name, accepted)),
    )
    source = node.element_type(0)
    if target == TensorProto.BOOL and source != TensorProto.BOOL:
        differs(node, node.x(), node.new_constant("zero", np.zeros((), np.float32)))
    elif target in INTEGERS and source in FLOATS:
        truncated(node, node.x())
    else:
        node.alias(node.x())


def truncated(node: Node, x: TensorId) -> None:
    """The node's result: sign(x) * floor(|x|)."""
    size = node.add(Unary(inputs=(x,), output=node.part("size"), function=Function.ABS))
    whole = node.add(Unary(inputs=(size,), output=node.part("whole"), function=Function.FLOOR))
    sign = node.add(Unary(inputs=(x,), output=node.part("sign"), function=Function.SIGN))
    node.context.whole_of[node.add(Mul(inputs=(sign, whole), output=node.out()))] = x


RULES: Mapping[str, Rule] = {
    "Cast": cast,
    "CastLike": cast_like,
}
