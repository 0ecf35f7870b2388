"""TFLite forms of functions, sums and products, choices, and of the border to integers.

What TensorFlow has no operator for is a table of 256 integers (65536 of 16 bits) that is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qcomp.exporters.tflite.integers import Integers, stored
from qcomp.exporters.tflite.moves import looked_up
from qcomp.exporters.tflite.writer import Writer
from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.ops import (
    Add,
    Binary,
    Clamp,
    Compare,
    Dequantize,
    Div,
    FakeQuantConstant,
    Function,
    IntegerConstant,
    Maximum,
    Minimum,
    Mul,
    Op,
    PRelu,
    Quantize,
    QuantizedConstant,
    Relation,
    Select,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import QParams, dequantize, integer_range, quantize
from qcomp.quant.scales import minmax_scales

_BINARY: Mapping[type[Binary], tuple[str, str | None]] = {
    Add: ("ADD", "AddOptions"),
    Sub: ("SUB", "SubOptions"),
    Mul: ("MUL", "MulOptions"),
    Div: ("DIV", "DivOptions"),
    Minimum: ("MINIMUM", None),
    Maximum: ("MAXIMUM", None),
}
_RELATIONS: Mapping[Relation, str] = {
    Relation.EQUAL: "EQUAL",
    Relation.LESS: "LESS",
    Relation.LESS_OR_EQUAL: "LESS_EQUAL",
}
_FIXED: Mapping[tuple[Function, int], tuple[str, QParams]] = {
    (Function.SIGMOID, 8): ("LOGISTIC", QParams(1 / 256, -128)),
    (Function.SIGMOID, 16): ("LOGISTIC", QParams(1 / 32768, 0, -32768, 32767)),
    (Function.TANH, 8): ("TANH", QParams(1 / 128, 0)),
    (Function.TANH, 16): ("TANH", QParams(1 / 32768, 0, -32768, 32767)),
}
"""Functions whose operator fixes the scale of its result."""


def binary(w: Writer, op: Binary) -> None:
    """Extremes are of tensors in one scale. A sum of 16 bits has scales of any kind, as it says."""
    bits = w.bits(op)
    kind, table = _BINARY[type(op)]
    like = w.result_qparams(op) if op.copies_integers else None
    operands = [w.operand(t, bits, like) for t in op.inputs]
    plain: dict[str, Any] = {"pot_scale_int16": False} if kind in ("ADD", "SUB") else {}
    fuses = table is not None
    w.finish(op, kind, operands, bits=bits, clamp=op.clamp, fuses=fuses, table=table, **plain)


def prelu(w: Writer, op: PRelu) -> None:
    """Slopes have 8 bits beside any activations."""
    bits, producer = w.bits(op), w.graph.producer(op.slope)
    if isinstance(producer, QuantizedConstant):
        given = stored(w.graph, producer)
        kept = Integers(given.data.astype(np.int8), given.scale, given.axis, given.zero_point)
        alpha = w.integers(op.slope, kept)
    else:
        slope = w.graph.data(op.slope).astype(np.float64)
        (scale,) = minmax_scales(slope.reshape(1, -1), 8)
        alpha = w.literal(slope.astype(np.float32), QParams(float(np.float32(scale)) or 1.0))
    w.finish(op, "PRELU", [w.operand(op.x, bits), alpha], bits=bits)


def clamp(w: Writer, op: Clamp) -> None:
    """Bounds on integers, behind other steps where those of the result differ."""
    q, wanted = w.qparams(op.x), w.result_qparams(op)
    x = w.operand(op.x, q.bits)
    if q != wanted:
        x = w.through("QUANTIZE", x, w.shape(op.output), wanted)
    bounds = quantize(np.array([op.clamp.low, op.clamp.high], np.float32), wanted)
    w.settle(op, x, wanted, int(bounds[0]), int(bounds[1]))


def unary(w: Writer, op: Unary) -> None:
    """By the operator of the function, where its kernel rounds once, or by a table."""
    bits = w.bits(op)
    if (op.function, bits) in _FIXED:
        kind, gives = _FIXED[op.function, bits]
        w.finish(op, kind, [w.operand(op.x, bits)], bits=bits, gives=gives)
    elif op.function is Function.LEAKY_RELU and op.alpha > 0.0:
        x = w.operand(op.x, bits)
        w.finish(op, "LEAKY_RELU", [x], bits=bits, table="LeakyReluOptions", alpha=op.alpha)
    elif op.function is Function.SILU and op.alpha == 1.0 and bits == 8:
        _, gives = _FIXED[Function.SIGMOID, bits]
        x = w.operand(op.x, bits)
        gate = w.through("LOGISTIC", x, w.shape(op.x), gives)
        w.finish(op, "MUL", [x, gate], bits=bits, table="MulOptions")
    else:
        _by_table(w, op)


def _by_table(w: Writer, op: Unary) -> None:
    q, wanted = w.qparams(op.x), w.result_qparams(op)
    low, high = integer_range(q.bits)
    values = MEANINGS[Unary](op, dequantize(np.arange(low, high + 1), q))
    table = Integers(quantize(values, wanted), np.array([wanted.scale]), 0, wanted.zero_point)
    index = w.integers(f"{op.output}.table", table)
    x, shape = w.operand(op.x, q.bits), w.shape(op.x)
    w.settle(op, looked_up(w, x, shape, q.bits, index, shape, wanted), wanted)


# --------------------------------------------------------------------- choices


def compare(w: Writer, op: Compare) -> None:
    """A truth value, which chooses between the integers of 0 and 1."""
    holds = _truth(w, _RELATIONS[op.relation], op, op.inputs)
    wanted = w.result_qparams(op)
    one, zero = (w.literal(np.array(v, np.float32), wanted) for v in (1.0, 0.0))
    y = w.through("SELECT_V2", holds, w.shape(op.output), wanted, one, zero)
    w.settle(op, y, wanted)


def select(w: Writer, op: Select) -> None:
    q, wanted = w.qparams(op.condition), w.result_qparams(op)
    zero = w.literal(np.array(0.0, np.float32), q)
    holds = w.tensor(f"{op.output}.condition", w.shape(op.condition), np.bool_, None)
    w.emit("NOT_EQUAL", [w.operand(op.condition, q.bits), zero], [holds])
    operands = [w.operand(t, wanted.bits, like=wanted) for t in (op.a, op.b)]
    y = w.through("SELECT_V2", holds, w.shape(op.output), wanted, *operands)
    w.settle(op, y, wanted)


def _truth(w: Writer, kind: str, op: Compare, inputs: tuple[TensorId, ...]) -> int:
    q = next(w.qparams(t) for t in inputs if w.is_activation(t))
    operands = [w.operand(t, q.bits, like=q) for t in inputs]
    holds = w.tensor(f"{op.output}.holds", w.shape(op.output), np.bool_, None)
    w.emit(kind, operands, [holds], bits=q.bits)
    return holds


# ---------------------------------------------------------------------- border


def quantize_(w: Writer, op: Quantize) -> None:
    """The tensor that the op behind it has written already, or in other steps."""
    if w.is_absorbed(op.x):
        w.absorb(op)
        return
    q = w.graph.tensor(op.output).qparams
    assert q is not None  # result_qparams of its operand found it
    first = w.parameters(op.x)
    same = (first.scale, first.zero_point, first.bits) == (q.scale, q.zero_point, q.bits)
    x = w.value(op.x)
    w.define(op.output, x if same else w.through("QUANTIZE", x, w.shape(op.x), q))


def dequantize_(w: Writer, op: Dequantize) -> None:
    """Those that read the float read the integers."""
    if w.is_absorbed(op.x):
        w.absorb(op)
        return
    w.define(op.output, w.value(op.x))


def quantized_constant(w: Writer, op: QuantizedConstant) -> None:
    """Written where it is read."""


RULES: Mapping[type[Op], Callable[..., None]] = {
    Clamp: clamp,
    Unary: unary,
    PRelu: prelu,
    Add: binary,
    Sub: binary,
    Mul: binary,
    Div: binary,
    Minimum: binary,
    Maximum: binary,
    Compare: compare,
    Select: select,
    Quantize: quantize_,
    Dequantize: dequantize_,
    FakeQuantConstant: quantized_constant,
    IntegerConstant: quantized_constant,
}
