"""QuantizeLinear and DequantizeLinear of constants, in every opset.

onnx.reference has them for the newer opsets only.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.context import Node
from qcomp.frontends.onnx.tensors import PACKED
from qcomp.ir.given import GivenIntegers
from qcomp.ir.tensor import Array


def along(parameter: Array, data: Array, axis: int) -> Array:
    """A scale or a zero point [C] such that it broadcasts along an axis; one for all as it is.

    Refused where the axis has another extent.
    """
    if parameter.size == 1:
        return parameter.reshape(())
    if not -data.ndim <= axis < data.ndim or parameter.size != data.shape[axis]:
        given = f"{parameter.size} scales or zero points along axis {axis} of {list(data.shape)}"
        raise Refused(given, "one, or one for each index of the axis")
    shape = [1] * data.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def real(data: Array, scale: Array, zero: Array, axis: int) -> Array:
    """scale * (data - zero), exact but for one rounding to float32."""
    centered = data.astype(np.int64) - along(zero, data, axis).astype(np.int64)
    return np.asarray(centered * along(scale, data, axis).astype(np.float64), np.float32)


def given(data: Array, scale: Array, zero: Array, axis: int) -> GivenIntegers:
    """The integers behind what `real` gives."""
    count = max(scale.size, zero.size)
    scales, zeros = (np.resize(p.reshape(-1), count) for p in (scale, zero))
    where = axis % max(data.ndim, 1)
    return GivenIntegers(data, scales.astype(np.float64), zeros.astype(np.int64), where)


def folded(node: Node) -> Array | None:
    """The result on constants; None where values share scales in blocks."""
    if node.integer("block_size", 0):
        return None
    data, scale = node.constant(0, "the operand"), node.constant(1, "the scale")
    axis = node.integer("axis", 1) if scale.size > 1 else 0
    zero = node.constant(2, "the zero point") if node.has(2) else None
    if node.op_type == "DequantizeLinear":
        zeros = np.zeros(1, np.int32) if zero is None else zero
        floats = real(data, scale, zeros, axis)
        node.context.integers[node.proto.output[0]] = given(data, scale, zeros, axis)
        return floats
    kind = node.integer("output_dtype", 0) or onnx.TensorProto.UINT8
    kind = kind if zero is None else node.element_type(2)
    if kind in PACKED:
        low, high = PACKED[kind]
        dtype = np.dtype(np.int8 if low < 0 else np.uint8)
        node.context.element_types[node.proto.output[0]] = kind
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        accepted = "int8, uint8, int16, uint16, int32, or of 4 or 2 bits"
        node.require(dtype.kind in "iu", f"integers of {dtype}", accepted)
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    with np.errstate(all="ignore"):
        steps = np.rint(data / along(scale, data, axis)).astype(np.float64)
    if zero is not None:
        steps = steps + along(zero, data, axis)
    return np.clip(np.nan_to_num(steps), low, high).astype(dtype)
