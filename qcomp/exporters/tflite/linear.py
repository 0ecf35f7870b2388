"""TFLite forms of the ops with weights.

Paddings that TensorFlow has no name for are a PAD before the operator. A convolution over zeros
that were put between pixels is a TRANSPOSE_CONV.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qcomp.exporters.tflite.integers import Integers, in_bits, stored
from qcomp.exporters.tflite.moves import sliced
from qcomp.exporters.tflite.transposed import is_absorbed, whole_shape, zeros_before
from qcomp.exporters.tflite.writer import Writer
from qcomp.ir.ops import (
    AveragePool2d,
    Conv2d,
    Dense,
    MatMul,
    MaxPool2d,
    Op,
    QuantizedConstant,
    Weighted,
    ZeroStuff,
)
from qcomp.ir.ops.linear import Padding, Pair
from qcomp.ir.tensor import TensorId

SAME, VALID = 0, 1
_BIAS: Mapping[int, np.dtype[Any]] = {8: np.dtype(np.int32), 16: np.dtype(np.int64)}
_WEIGHTS = 127


def conv2d(w: Writer, op: Conv2d) -> None:
    """CONV_2D; DEPTHWISE_CONV_2D where each channel has filters of its own."""
    zeros = zeros_before(w.graph, op)
    if zeros is not None and is_absorbed(w.graph, zeros):
        transpose_conv(w, op, zeros)
        return
    bits = w.bits(op)
    channels = w.shape(op.x)[3]
    outputs, *kernel, taken = w.shape(op.weight)
    x, padding = windowed(w, op, bits, (kernel[0], kernel[1]))
    options: dict[str, Any] = {
        "padding": padding,
        "stride_h": op.stride[0],
        "stride_w": op.stride[1],
        "dilation_h_factor": op.dilation[0],
        "dilation_w_factor": op.dilation[1],
    }
    filters = weights(w, op)
    if taken == 1 and op.groups == channels:
        data = filters.data.transpose(3, 1, 2, 0)
        operands = [x, w.integers(op.weight, Integers(data, filters.scale, 3)), bias(w, op, bits)]
        options["depth_multiplier"] = outputs // channels
        kind, table = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
    else:
        operands = [x, w.integers(op.weight, filters), bias(w, op, bits)]
        kind, table = "CONV_2D", "Conv2DOptions"
    w.finish(op, kind, operands, bits=bits, clamp=op.clamp, fuses=True, table=table, **options)


def windowed(
    w: Writer, op: Conv2d | AveragePool2d | MaxPool2d, bits: int, kernel: Pair
) -> tuple[int, int]:
    """The operand of an op with windows, padded if need be, and the number of its padding."""
    named = padding_of(w, op, kernel)
    x = w.operand(op.x, bits)
    return (x, named) if named is not None else (padded(w, op.x, x, op.padding, bits), VALID)


def padding_of(w: Writer, op: Conv2d | AveragePool2d | MaxPool2d, kernel: Pair) -> int | None:
    """The number of the padding that has these pixels at every side, or None."""
    if not any(op.padding):
        return VALID
    top, left, bottom, right = op.padding
    sides = zip(w.shape(op.x)[1:3], kernel, op.stride, op.dilation, strict=True)
    missing = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in sides]
    same = [(m // 2, m - m // 2) for m in missing]
    return SAME if same == [(top, bottom), (left, right)] else None


def padded(w: Writer, id: TensorId, x: int, padding: Padding, bits: int) -> int:
    """The operand with zeros around its pixels."""
    top, left, bottom, right = padding
    n, height, width, channels = w.shape(id)
    q = w.qparams(id)
    grown = (n, height + top + bottom, width + left + right, channels)
    sides = np.array([[0, 0], [top, bottom], [left, right], [0, 0]])
    return w.through("PAD", x, grown, in_bits(q, bits), w.numbers(sides))


def weights(w: Writer, op: Weighted) -> Integers:
    """Of 8 bits, with zero point 0; UnsupportedOp where their integers need more."""
    producer = w.graph.producer(op.weight)
    w.require(op, isinstance(producer, QuantizedConstant), "float weights", "a graph in form qdq")
    assert isinstance(producer, QuantizedConstant)
    found = stored(w.graph, producer)
    data = found.data - found.zero_point
    most = int(np.abs(data).max(initial=0))
    w.require(
        op,
        most <= _WEIGHTS + 1 and int(data.max(initial=0)) <= _WEIGHTS,
        f"weights of {most} steps from their zero point",
        "8 bits around 0",
    )
    w.require(op, found.axis == 0 or found.scale.size == 1, "scales along another axis", "axis 0")
    return Integers(data.astype(np.int8), found.scale)


def bias(w: Writer, op: Weighted, bits: int) -> int:
    """In steps of the product of both scales, i32, or i64 where activations have 16 bits."""
    producer = w.graph.producer(op.bias)
    w.require(op, isinstance(producer, QuantizedConstant), "a float bias", "a graph in form qdq")
    assert isinstance(producer, QuantizedConstant)
    found = stored(w.graph, producer)
    return w.integers(op.bias, Integers(found.data.astype(_BIAS[bits]), found.scale))


def transpose_conv(w: Writer, op: Conv2d, zeros: ZeroStuff) -> None:
    """The whole result of TensorFlow's VALID, of which the border is cut."""
    bits = w.bits(op)
    filters = weights(w, op)
    turned = Integers(filters.data[:, ::-1, ::-1], filters.scale)
    whole = whole_shape(w, op)
    operands = [
        w.numbers(whole),
        w.integers(op.weight, turned),
        w.operand(zeros.x, bits),
        bias(w, op, bits),
    ]
    made, low, high = w.plan(op, bits, op.clamp)
    y = w.activation(f"{op.output}.whole", whole, made)
    options = {"padding": VALID, "stride_h": zeros.stride[0], "stride_w": zeros.stride[1]}
    w.emit("TRANSPOSE_CONV", operands, [y], bits=bits, table="TransposeConvOptions", **options)
    if whole != w.shape(op.output):
        _, kh, kw, _ = w.shape(op.weight)
        starts = (0, kh - 1 - op.padding[0], kw - 1 - op.padding[1], 0)
        y = sliced(w, y, starts, w.shape(op.output), (1, 1, 1, 1), made)
    w.settle(op, y, made, low, high)


def dense(w: Writer, op: Dense) -> None:
    bits = w.bits(op)
    operands = [w.operand(op.x, bits), w.integers(op.weight, weights(w, op)), bias(w, op, bits)]
    w.finish(
        op,
        "FULLY_CONNECTED",
        operands,
        bits=bits,
        clamp=op.clamp,
        fuses=True,
        table="FullyConnectedOptions",
        keep_num_dims=len(w.shape(op.x)) > 2,
    )


def matmul(w: Writer, op: MatMul) -> None:
    bits = w.bits(op)
    operands = [w.operand(t, bits) for t in op.inputs]
    w.finish(op, "BATCH_MATMUL", operands, bits=bits, table="BatchMatMulOptions")


RULES: Mapping[type[Op], Callable[..., None]] = {
    Conv2d: conv2d,
    Dense: dense,
    MatMul: matmul,
}
