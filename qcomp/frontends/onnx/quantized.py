"""Operators of integers as operators of floats between DequantizeLinear and QuantizeLinear.

ONNX's own (QLinearConv, ConvInteger ...) and onnxruntime's (the domain com.microsoft: QLinearAdd,
QGemm ...). Weights become the real values that they stand for; integer arithmetic is the target's.

What DynamicQuantizeLinear gives is the value itself, with scale 1 and zero point 0: its range is
calibrated. So a product of integers behind it is one of floats, and what multiplies it by the
scales, of weights alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.expansion import Expansion, Nodes, Source

CONTRIB = "com.microsoft"
BORDERS = ("QuantizeLinear", "DequantizeLinear")
"""In either domain: older opsets of ONNX have none of 16 bits."""


def _conv(s: Source) -> Nodes:
    x, read = s.read(0)
    y, write = s.written(6)
    inputs = [x, s.real(3, 0)]
    if s.input(8):
        inputs.append(s.bias(8, 1, 4))
    return [read, s.node("Conv", inputs, y), write]


def _matmul(s: Source) -> Nodes:
    a, read = s.read(0)
    y, write = s.written(6)
    if s.input(3) in s.context.constants:
        return [read, s.node("MatMul", [a, s.real(3, -1)], y), write]
    b, read_b = s.read(3)
    return [read, read_b, s.node("MatMul", [a, b], y), write]


def _gemm(s: Source) -> Nodes:
    """Without a scale of the result it gives floats."""
    a, read = s.read(0)
    transposed = any(x.name == "transB" and x.i for x in s.proto.attribute)
    inputs = [a, s.real(3, 0 if transposed else 1)]
    if s.input(6):
        inputs.append(s.bias(6, 1, 4))
    if not s.input(7):
        return [read, s.node("Gemm", inputs, s.output)]
    y, write = s.written(7)
    return [read, s.node("Gemm", inputs, y), write]


def _binary(op: str) -> Expansion:
    def expansion(s: Source) -> Nodes:
        (a, read_a), (b, read_b) = s.read(0), s.read(3)
        y, write = s.written(6)
        return [read_a, read_b, s.node(op, [a, b], y), write]

    return expansion


def _unary(op: str, *left_out: str) -> Expansion:
    def expansion(s: Source) -> Nodes:
        x, read = s.read(0)
        y, write = s.written(3)
        if any(a.name == "channels_last" and a.i for a in s.proto.attribute):
            raise Refused("channels_last=1", "channels_last=0")
        left = dict.fromkeys(("channels_last", *left_out))
        return [read, s.node(op, [x], y, **left), write]

    return expansion


def _concat(s: Source) -> Nodes:
    """Operands: the result's scale and zero point, then each part with its own."""
    reads = [s.read(i) for i in range(2, len(s.proto.input), 3)]
    y = s.name("y")
    write = make_node("QuantizeLinear", [y, s.input(0), s.input(1)], [s.output])
    return [*(read for _, read in reads), s.node("Concat", [x for x, _ in reads], y), write]


def _dynamic(s: Source) -> Nodes:
    for name, value in ((s.result(1), np.float32(1.0)), (s.result(2), np.uint8(0))):
        if name:
            s.context.constants[name] = np.array(value)
    s.context.notes.append(
        f"the range of {s.input(0)}, which the model finds in each run, is fixed, unless "
        "activations='dynamic' has one found for each row or image"
    )
    return [make_node("Identity", [s.input(0)], [s.output])]


def _conv_integer(s: Source) -> Nodes:
    return [s.node("Conv", [s.input(0), s.centered(1, 3, 0)], s.output)]


def _matmul_integer(s: Source) -> Nodes:
    return [s.node("MatMul", [s.input(0), s.centered(1, 3, -1)], s.output)]


def _matmul_to_float(s: Source) -> Nodes:
    """Operands: A, B, their scales, their zero points, a bias."""
    a = s.name("a")
    given = [s.input(0), s.input(2), *([s.input(4)] if s.input(4) else [])]
    scale, data = s.constant(3, "the scale"), s.constant(1, "the weight")
    b = s.floats("b", data, scale, s.zero(5), -1)
    return [make_node("DequantizeLinear", given, [a]), *_with_bias(s, a, b, 6)]


def _dynamic_matmul(s: Source) -> Nodes:
    """Operands: A of floats, B, its scale and zero point, a bias."""
    return _with_bias(s, s.input(0), s.real(1, -1), 4)


def _lstm(s: Source) -> Nodes:
    """Weights have the gates last: [directions, inputs, 4 H], as scales [directions, 4 H] have."""
    weights = []
    for role, index in (("w", 1), ("r", 2)):
        data = s.constant(index, "the weight")
        scale, zero = s.constant(6 + 2 * index, "the scale"), s.zero(7 + 2 * index)
        if data.ndim != 3 or scale.size % data.shape[0]:
            raise Refused(f"weights {list(data.shape)} with {scale.size} scales")
        each = (data.shape[0], 1, -1)
        centered = data.astype(np.int64) - (zero.reshape(each) if zero.size > 1 else zero)
        floats = (centered * scale.reshape(each).astype(np.float64)).astype(np.float32)
        weights.append(s.given(role, floats.transpose(0, 2, 1)))
    made = s.node("LSTM", [s.input(0), *weights, *(s.input(i) for i in range(3, 8))], s.output)
    made.output[:] = s.proto.output
    return [made]


def _with_bias(s: Source, a: str, b: str, bias: int) -> Nodes:
    if not s.input(bias):
        return [make_node("MatMul", [a, b], [s.output])]
    product = s.name("product")
    return [
        make_node("MatMul", [a, b], [product]),
        make_node("Add", [product, s.input(bias)], [s.output]),
    ]


QUANTIZED: Mapping[tuple[str, str], Expansion] = {
    ("", "ConvInteger"): _conv_integer,
    ("", "DynamicQuantizeLinear"): _dynamic,
    ("", "MatMulInteger"): _matmul_integer,
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    (CONTRIB, "DynamicQuantizeLSTM"): _lstm,
    (CONTRIB, "DynamicQuantizeMatMul"): _dynamic_matmul,
    (CONTRIB, "MatMulIntegerToFloat"): _matmul_to_float,
    (CONTRIB, "QGemm"): _gemm,
    (CONTRIB, "QLinearAdd"): _binary("Add"),
    (CONTRIB, "QLinearAveragePool"): _unary("AveragePool"),
    (CONTRIB, "QLinearConcat"): _concat,
    (CONTRIB, "QLinearGlobalAveragePool"): _unary("GlobalAveragePool"),
    (CONTRIB, "QLinearLeakyRelu"): _unary("LeakyRelu"),
    (CONTRIB, "QLinearMul"): _binary("Mul"),
    (CONTRIB, "QLinearSigmoid"): _unary("Sigmoid"),
    (CONTRIB, "QLinearSoftmax"): _unary("Softmax", "opset"),
}
