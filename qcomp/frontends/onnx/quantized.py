"""Operators of integers as operators of floats between DequantizeLinear and QuantizeLinear.

ONNX's own (QLinearConv, ConvInteger ...) and onnxruntime's (the domain com.microsoft: QLinearAdd,
QGemm ...). Weights become the real values that they stand for; integer arithmetic is the target's.

What DynamicQuantizeLinear gives is the value itself, with scale 1 and zero point 0: its range is
calibrated. So a product of integers behind it is one of floats, and what multiplies it by the
scales, of weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.grids import real
from qcomp.ir.tensor import Array

CONTRIB = "com.microsoft"
_NO_ZERO = np.zeros(1, np.int32)
BORDERS = ("QuantizeLinear", "DequantizeLinear")
"""In either domain: older opsets of ONNX have none of 16 bits."""
Nodes = list[onnx.NodeProto]
Expansion = Callable[["Source"], Nodes]


class Source:
    """A node of integers: its operands, and names for the values of its expansion."""

    def __init__(self, context: Context, proto: onnx.NodeProto) -> None:
        self.context, self.proto = context, proto

    def input(self, index: int) -> str:
        """The name of an operand, "" where there is none."""
        return str(self.proto.input[index]) if index < len(self.proto.input) else ""

    def output(self, index: int) -> str:
        """The name of a result, "" where nothing reads it; Refused where the node has fewer."""
        if index >= len(self.proto.output):
            raise Refused(f"it has no result {index}")
        return str(self.proto.output[index])

    def constant(self, index: int, what: str) -> Array:
        name = self.input(index)
        if name not in self.context.constants:
            raise Refused(f"{what} must be a constant", "an initializer or constant expression")
        return self.context.constants[name]

    def name(self, role: str) -> str:
        return f"{self.output(0)}.{role}"

    def zero(self, index: int) -> Array:
        """A zero point, 0 where the node has none."""
        return self.constant(index, "the zero point") if self.input(index) else _NO_ZERO

    def real(self, index: int, axis: int) -> str:
        """A constant of integers, with the scale and the zero point behind it, as floats."""
        scale, zero = self.constant(index + 1, "the scale"), self.zero(index + 2)
        return self.floats(f"real{index}", self.constant(index, "the weight"), scale, zero, axis)

    def centered(self, index: int, zero: int, axis: int) -> str:
        """A constant of integers without its zero point."""
        data = self.constant(index, "the weight")
        return self.floats(f"real{index}", data, np.ones(1), self.zero(zero), axis)

    def bias(self, index: int, x_scale: int, w_scale: int) -> str:
        """A bias i32 in steps of the product of two scales."""
        scales = [self.constant(i, "the scale").astype(np.float64) for i in (x_scale, w_scale)]
        data = self.constant(index, "the bias")
        return self.floats("bias", data, scales[0] * scales[1], _NO_ZERO, 0)

    def floats(self, role: str, data: Array, scale: Array, zero: Array, axis: int) -> str:
        """A constant of the real values of integers; its name."""
        name = self.name(role)
        self.context.constants[name] = real(data, scale, zero, axis)
        return name

    def read(self, index: int) -> tuple[str, onnx.NodeProto]:
        """An activation, dequantized with the operands behind it."""
        name = self.name(f"x{index}")
        operands = [self.input(i) for i in range(index, index + 3) if self.input(i)]
        return name, make_node("DequantizeLinear", operands, [name])

    def written(self, index: int) -> tuple[str, onnx.NodeProto]:
        """The result, quantized with the operands from `index` on."""
        name = self.name("y")
        operands = [name, *(self.input(i) for i in (index, index + 1) if self.input(i))]
        return name, make_node("QuantizeLinear", operands, [self.output(0)])

    def node(
        self, op: str, inputs: Sequence[str], output: str, **changes: object
    ) -> onnx.NodeProto:
        """A node of floats with this one's attributes."""
        made = make_node(op, inputs, [output])
        kept = {a.name for a in made.attribute} | {n for n, v in changes.items() if v is None}
        made.attribute.extend(a for a in self.proto.attribute if a.name not in kept)
        return made


def expanded(context: Context, proto: onnx.NodeProto) -> Nodes:
    """What stands for a node; itself, where it is one of floats."""
    if proto.domain == CONTRIB and proto.op_type in BORDERS:
        plain = onnx.NodeProto()
        plain.CopyFrom(proto)
        plain.domain = ""
        return [plain]
    expansion = EXPANSIONS.get((proto.domain if proto.domain == CONTRIB else "", proto.op_type))
    return [proto] if expansion is None else expansion(Source(context, proto))


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
        return [read, s.node("Gemm", inputs, s.output(0))]
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
    write = make_node("QuantizeLinear", [y, s.input(0), s.input(1)], [s.output(0)])
    return [*(read for _, read in reads), s.node("Concat", [x for x, _ in reads], y), write]


def _dynamic(s: Source) -> Nodes:
    for name, value in ((s.output(1), np.float32(1.0)), (s.output(2), np.uint8(0))):
        if name:
            s.context.constants[name] = np.array(value)
    s.context.notes.append(
        f"the range of {s.input(0)}, which the model finds in each run, is fixed"
    )
    return [make_node("Identity", [s.input(0)], [s.output(0)])]


def _conv_integer(s: Source) -> Nodes:
    return [s.node("Conv", [s.input(0), s.centered(1, 3, 0)], s.output(0))]


def _matmul_integer(s: Source) -> Nodes:
    return [s.node("MatMul", [s.input(0), s.centered(1, 3, -1)], s.output(0))]


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


def _with_bias(s: Source, a: str, b: str, bias: int) -> Nodes:
    if not s.input(bias):
        return [make_node("MatMul", [a, b], [s.output(0)])]
    product = s.name("product")
    return [
        make_node("MatMul", [a, b], [product]),
        make_node("Add", [product, s.input(bias)], [s.output(0)]),
    ]


EXPANSIONS: Mapping[tuple[str, str], Expansion] = {
    ("", "ConvInteger"): _conv_integer,
    ("", "DynamicQuantizeLinear"): _dynamic,
    ("", "MatMulInteger"): _matmul_integer,
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
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
