"""Integers of a file: which tensors are quantized activations, and their parameters.

TensorFlow Lite's 8-bit quantization specification: activations are i8 with any zero point, weights
i8 with zero point 0, biases i32. Older files have bytes without a sign, which are the same with 128
less; those of 16-bit activations are symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.frontends.limits import Refused
from qcomp.frontends.tflite.load import FileTensor
from qcomp.ir.tensor import Array
from qcomp.quant.qparams import QParams, integer_range

QPARAMS: Mapping[str, tuple[int, int]] = {"INT8": (8, 0), "UINT8": (8, 128), "INT16": (16, 0)}
"""Element types of quantized activations: bits, and how much their integers are moved."""


def is_activation(tensor: FileTensor) -> bool:
    """Whether it has integers with a scale, and is no constant."""
    return tensor.data is None and tensor.kind in QPARAMS and tensor.quantization is not None


def qparams_of(tensor: FileTensor) -> QParams:
    """Of a quantized activation; Refused for those that ours can't be."""
    quantization = tensor.quantization
    assert quantization is not None
    bits, moved = QPARAMS[tensor.kind]
    if quantization.scale.size != 1:
        raise Refused(f"{tensor.name!r} has {quantization.scale.size} scales", "one scale for all")
    zero = int(quantization.zero_point[0]) - moved
    qmin, qmax = integer_range(bits)
    if not qmin <= zero <= qmax or (bits == 16 and zero != 0):
        raise Refused(
            f"{tensor.name!r} has the zero point {quantization.zero_point[0]} and is {tensor.kind}",
            "one of its type, 0 for INT16",
        )
    return QParams(float(quantization.scale[0]), zero, qmin, qmax)


def real(data: Array, tensor: FileTensor) -> Array:
    """The values that the integers of a constant stand for, as f32."""
    quantization = tensor.quantization
    assert quantization is not None
    along = [1] * data.ndim
    if quantization.scale.size > 1:
        along[quantization.axis] = -1
    scale = quantization.scale.astype(np.float64).reshape(along)
    zero = quantization.zero_point.reshape(along)
    return (scale * (data.astype(np.int64) - zero)).astype(np.float32)
