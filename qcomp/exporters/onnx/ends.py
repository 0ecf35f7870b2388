"""Conversions and tails, which the floats outside compute, as nodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.exporters.onnx.writer import Writer
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.conversion import Conversion
from qcomp.quant.tail import Tail, TailFunction

_OPERATORS: Mapping[TailFunction, str] = {
    TailFunction.SIGMOID: "Sigmoid",
    TailFunction.SOFTMAX: "Softmax",
    TailFunction.LOG_SOFTMAX: "LogSoftmax",
}


def inward(w: Writer, id: TensorId, real: str, conversion: Conversion) -> str:
    """The values inside of an input, of the caller's."""
    rank = w.graph.type(id).rank
    moved = w.emit("Sub", [real, w.literal(_along(conversion, conversion.offset, rank))])
    return w.emit("Div", [moved, w.literal(_along(conversion, conversion.scale, rank))])


def outward(w: Writer, id: TensorId, value: str, conversion: Conversion | None) -> str:
    """The values of an output in the caller's units."""
    if conversion is None:
        return value
    rank = w.graph.type(id).rank
    moved = w.emit("Add", [value, w.literal(_along(conversion, conversion.shift, rank))])
    return w.emit("Mul", [moved, w.literal(_along(conversion, conversion.scale, rank))])


def behind(w: Writer, value: str, tail: Tail | None) -> str:
    """What the function that comes last makes of them."""
    if tail is None:
        return value
    if tail.function is TailFunction.SIGMOID:
        return w.emit(_OPERATORS[tail.function], [value])
    return w.emit(_OPERATORS[tail.function], [value], axis=tail.axis)


def _along(conversion: Conversion, numbers: tuple[float, ...], rank: int) -> Array:
    shape = [1] * rank
    if len(numbers) > 1:
        shape[conversion.axis] = len(numbers)
    return np.array(numbers, np.float32).reshape(shape)
