"""ONNX forms of the elementwise ops and of the border between floats and integers.

They keep the layout of their operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx

from qcomp.errors import UnsupportedOp
from qcomp.exporters.onnx.writer import OPEN_FIELDS, Writer
from qcomp.ir.ops import (
    Add,
    Binary,
    Clamp,
    ClampRange,
    Dequantize,
    Div,
    FakeQuantConstant,
    Function,
    IntegerConstant,
    LogPower,
    Maximum,
    Minimum,
    Mul,
    Op,
    PRelu,
    Quantize,
    QuantizedConstant,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import SUM_BITS, QParams, integer_range

_OPSET_OF_GELU = 20

BINARY: Mapping[type[Binary], str] = {
    Add: "Add",
    Sub: "Sub",
    Mul: "Mul",
    Div: "Div",
    Minimum: "Min",
    Maximum: "Max",
}


def binary(w: Writer, op: Binary) -> None:
    layout = w.common_layout(op.inputs)
    y = w.emit(BINARY[type(op)], [w.read(t, layout) for t in op.inputs])
    w.define(op.id, layout, w.emit_clamp(y, op.clamp))


def prelu(w: Writer, op: PRelu) -> None:
    layout = w.common_layout(op.inputs)
    w.define(op.id, layout, w.emit("PRelu", [w.read(t, layout) for t in op.inputs]))


def log_power(w: Writer, op: LogPower) -> None:
    layout = w.common_layout(op.inputs)
    a, b = (w.read(t, layout) for t in op.inputs)
    power = w.emit("Add", [w.emit("Mul", [a, a]), w.emit("Mul", [b, b])])
    power = w.emit("Max", [w.emit("Add", [power, w.scalar(op.added)]), w.scalar(op.least)])
    w.define(op.id, layout, w.emit("Log", [power]))


def clamp(w: Writer, op: Clamp) -> None:
    layout = w.common_layout(op.inputs)
    x = w.read(op.x, layout)
    y = w.emit("Identity", [x]) if op.clamp.is_none else w.emit_clamp(x, op.clamp)
    w.define(op.id, layout, y)


def unary(w: Writer, op: Unary) -> None:
    layout = w.common_layout(op.inputs)
    w.define(op.id, layout, _FUNCTIONS[op.function](w, op, w.read(op.x, layout)))


def quantize(w: Writer, op: Quantize) -> None:
    """QuantizeLinear saturates to all of the type; a narrower range is a Clip before it. It has no
    sums of 32 bits, which are rounded and cast.
    """
    if op.output in w.open_tensors:
        _open_quantize(w, op)
        return
    q = _qparams(w, op.output)
    layout = w.common_layout(op.inputs)
    x = w.read(op.x, layout)
    if q.bits == SUM_BITS:
        steps = w.emit("Round", [w.emit("Div", [x, w.scalar(q.scale)])])
        steps = w.emit_clamp(steps, ClampRange(-(2.0**31), 2.0**31 - 128.0))  # as floats have it
        w.define(op.id, layout, w.emit("Cast", [steps], to=onnx.TensorProto.INT32))
        return
    if (q.qmin, q.qmax) != integer_range(q.bits):
        x = w.emit_clamp(x, ClampRange(*q.range))
    operands = [x, w.scalar(q.scale), w.literal(w.dialect.zero_point(q))]
    w.define(op.id, layout, w.emit_of(w.dialect.domain(q), "QuantizeLinear", operands))


def _open_quantize(w: Writer, op: Quantize) -> None:
    """Integers less the zero point, as floats: the type of QuantizeLinear would fix the bits."""
    layout = w.common_layout(op.inputs)
    scale, low, high = (w.open_parameter(op.output, f, layout) for f in OPEN_FIELDS)
    steps = w.emit("Round", [w.emit("Div", [w.read(op.x, layout), scale])])
    w.define(op.id, layout, w.emit("Max", [w.emit("Min", [steps, high]), low]))


def dequantize(w: Writer, op: Dequantize) -> None:
    if op.x in w.open_tensors:
        layout = w.common_layout(op.inputs)
        scale = w.open_parameter(op.x, "scale", layout)
        w.define(op.id, layout, w.emit("Mul", [w.read(op.x, layout), scale]))
        return
    q = _qparams(w, op.x)
    layout = w.common_layout(op.inputs)
    if q.bits == SUM_BITS:
        steps = w.emit("Cast", [w.read(op.x, layout)], to=onnx.TensorProto.FLOAT)
        w.define(op.id, layout, w.emit("Mul", [steps, w.scalar(q.scale)]))
        return
    operands = [w.read(op.x, layout), w.scalar(q.scale), w.literal(w.dialect.zero_point(q))]
    w.define(op.id, layout, w.emit_of(w.dialect.domain(q), "DequantizeLinear", operands))


def quantized_constant(w: Writer, op: QuantizedConstant) -> None:
    """Written where it is read, as integers in the reader's layout (Writer.parameter)."""


def _qparams(w: Writer, id: TensorId) -> QParams:
    qparams = w.graph.tensor(id).qparams
    if qparams is None:
        raise UnsupportedOp([f"%{id} has no qparams; expected a graph in form qdq"])
    return qparams


# ------------------------------------------------------------------- functions

_Function = Callable[[Writer, Unary, str], str]


def _one(kind: str) -> _Function:
    return lambda w, op, x: w.emit(kind, [x])


def _silu(w: Writer, op: Unary, x: str) -> str:
    inner = x if op.alpha == 1.0 else w.emit("Mul", [x, w.scalar(op.alpha)])
    return w.emit("Mul", [x, w.emit("Sigmoid", [inner])])


def _mish(w: Writer, op: Unary, x: str) -> str:
    return w.emit("Mul", [x, w.emit("Tanh", [w.emit("Softplus", [x])])])


def _hard_swish(w: Writer, op: Unary, x: str) -> str:
    return w.emit("Mul", [x, w.emit("HardSigmoid", [x], alpha=1 / 6, beta=0.5)])


def _gelu(w: Writer, op: Unary, x: str) -> str:
    """0.5 * x * (1 + erf(x / sqrt(2))), spelt out where the opset has no operator."""
    if w.dialect.opset >= _OPSET_OF_GELU:
        return w.emit("Gelu", [x], approximate="none")
    erf = w.emit("Erf", [w.emit("Mul", [x, w.scalar(math.sqrt(0.5))])])
    return _gated(w, x, erf)


def _gelu_tanh(w: Writer, op: Unary, x: str) -> str:
    """The same with tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)) for the error function."""
    if w.dialect.opset >= _OPSET_OF_GELU:
        return w.emit("Gelu", [x], approximate="tanh")
    square = w.emit("Mul", [w.emit("Mul", [x, x]), w.scalar(0.044715)])
    bent = w.emit("Mul", [w.emit("Add", [square, w.scalar(1.0)]), x])
    return _gated(w, x, w.emit("Tanh", [w.emit("Mul", [bent, w.scalar(math.sqrt(2 / math.pi))])]))


def _gated(w: Writer, x: str, gate: str) -> str:
    """0.5 * x * (1 + gate)"""
    half = w.emit("Mul", [x, w.scalar(0.5)])
    return w.emit("Mul", [half, w.emit("Add", [gate, w.scalar(1.0)])])


def _affine(w: Writer, op: Unary, x: str) -> str:
    return w.emit("Add", [w.emit("Mul", [x, w.scalar(op.alpha)]), w.scalar(op.beta)])


_FUNCTIONS: Mapping[Function, _Function] = {
    Function.LEAKY_RELU: lambda w, op, x: w.emit("LeakyRelu", [x], alpha=op.alpha),
    Function.ELU: lambda w, op, x: w.emit("Elu", [x], alpha=op.alpha),
    Function.SELU: lambda w, op, x: w.emit("Selu", [x], alpha=op.alpha, gamma=op.beta),
    Function.CELU: lambda w, op, x: w.emit("Celu", [x], alpha=op.alpha),
    Function.SIGMOID: _one("Sigmoid"),
    Function.HARD_SIGMOID: lambda w, op, x: w.emit(
        "HardSigmoid", [x], alpha=op.alpha, beta=op.beta
    ),
    Function.HARD_SWISH: _hard_swish,
    Function.SILU: _silu,
    Function.TANH: _one("Tanh"),
    Function.SOFTPLUS: _one("Softplus"),
    Function.SOFTSIGN: _one("Softsign"),
    Function.MISH: _mish,
    Function.GELU: _gelu,
    Function.GELU_TANH: _gelu_tanh,
    Function.ERF: _one("Erf"),
    Function.EXP: _one("Exp"),
    Function.LOG: _one("Log"),
    Function.SQRT: _one("Sqrt"),
    Function.RECIPROCAL: _one("Reciprocal"),
    Function.NEG: _one("Neg"),
    Function.ABS: _one("Abs"),
    Function.POW: lambda w, op, x: w.emit("Pow", [x, w.scalar(op.alpha)]),
    Function.SIN: _one("Sin"),
    Function.COS: _one("Cos"),
    Function.ATAN: _one("Atan"),
    Function.SINH: _one("Sinh"),
    Function.COSH: _one("Cosh"),
    Function.ASINH: _one("Asinh"),
    Function.SHRINK: lambda w, op, x: w.emit("Shrink", [x], lambd=op.alpha, bias=op.beta),
    Function.THRESHOLDED_RELU: lambda w, op, x: w.emit("ThresholdedRelu", [x], alpha=op.alpha),
    Function.FLOOR: _one("Floor"),
    Function.CEIL: _one("Ceil"),
    Function.ROUND: _one("Round"),
    Function.SIGN: _one("Sign"),
    Function.AFFINE: _affine,
}


RULES: Mapping[type[Op], Callable[..., None]] = {
    Clamp: clamp,
    Unary: unary,
    PRelu: prelu,
    LogPower: log_power,
    Add: binary,
    Sub: binary,
    Mul: binary,
    Div: binary,
    Minimum: binary,
    Maximum: binary,
    Quantize: quantize,
    Dequantize: dequantize,
    FakeQuantConstant: quantized_constant,
    IntegerConstant: quantized_constant,
}
