"""The QDQ form: qparams of operands and results, grids of constants, rounding of activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import PassError
from qcomp.ir import round_trip as ir
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Dequantize,
    FakeQuantConstant,
    Function,
    IntegerConstant,
    LogPower,
    Mul,
    Op,
    Quantize,
    QuantizedConstant,
    Unary,
    Weighted,
)
from qcomp.ir.tensor import TensorId
from qcomp.ir.text import format_op
from qcomp.quant.grid import Grid
from qcomp.quant.qparams import SUM_BITS, QParams


def quantized_operand(graph: Graph, tensor: TensorId) -> TensorId:
    """The i8 tensor behind a dequantized operand."""
    producer = graph.producer(tensor)
    if not isinstance(producer, Dequantize):
        raise PassError(f"%{tensor} is not dequantized")
    return producer.x


def operand_qparams(graph: Graph, tensor: TensorId) -> QParams:
    """The qparams of an operand `%t.dq`."""
    return _qparams(graph, quantized_operand(graph, tensor))


def result_quantize(graph: Graph, tensor: TensorId) -> Quantize:
    """The quantize that reads an op's result."""
    for op in graph.consumers(tensor):
        if isinstance(op, Quantize):
            return op
    raise PassError(f"%{tensor} is not quantized")


def result_qparams(graph: Graph, tensor: TensorId) -> QParams:
    """The qparams that an op's result is quantized to."""
    return _qparams(graph, result_quantize(graph, tensor).output)


def _qparams(graph: Graph, tensor: TensorId) -> QParams:
    qparams = graph.tensor(tensor).qparams
    if qparams is None:
        raise PassError(f"%{tensor} has no qparams")
    return qparams


@dataclass(frozen=True, eq=False)
class Stored:
    """A quantized constant: scale * (integers - zero_point), both [C] along axis 0, or [1]."""

    integers: NDArray[np.int64]
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]

    @property
    def centered(self) -> NDArray[np.int64]:
        """integers - zero_point."""
        if not self.zero_point.any():
            return self.integers
        shape = (-1, *(1,) * (self.integers.ndim - 1))
        return np.asarray(self.integers - self.zero_point.reshape(shape))


def stored(graph: Graph, op: QuantizedConstant) -> Stored:
    """Of a constant that is rounded, its nearest integers; of one that was given, these."""
    data, scale = graph.data(op.x), graph.data(op.scale)
    if isinstance(op, FakeQuantConstant):
        zero = np.zeros(1, np.int64)
        return Stored(rounding_grid(graph, op).integers(data), scale, zero)
    assert isinstance(op, IntegerConstant)
    if op.axis != 0 and scale.size > 1:
        raise PassError(f"{format_op(graph, op)}\n  has scales along axis {op.axis}; expected 0")
    return Stored(data.astype(np.int64), scale, graph.data(op.zero_point).astype(np.int64))


def why_not_rounded(graph: Graph, constant: TensorId) -> str | None:
    """The reason why no pass may move the grid of a layer's constant, or None."""
    producer = graph.producer(constant)
    if isinstance(producer, FakeQuantConstant):
        return None
    state = "was given in integers" if isinstance(producer, IntegerConstant) else "is not quantized"
    return f"%{constant} {state}"


def why_no_mean_error(graph: Graph, layer: Weighted) -> str | None:
    """The reason why no number may be added to all results of a layer, or None.

    What is 32 bits wide, and what is squared to that or for a logarithm, ranges over decades: the
    mean of its errors is that of its largest values, and would drown the small ones.
    """
    waiting = [layer.output]
    while waiting:
        t = waiting.pop()
        q = graph.tensor(t).qparams
        if q is not None and q.bits == SUM_BITS:
            return f"%{t} has 32 bits: its errors differ by decades, and so does their mean"
        for op in graph.consumers(t):
            if isinstance(op, LogPower):
                return f"%{op.output} is the logarithm of its square: its errors differ by decades"
            moves = op.copies_integers and len(graph.activations(op)) == 1
            squares = isinstance(op, Unary) and op.function is Function.POW
            if moves or squares or isinstance(op, Quantize | Dequantize | Mul):
                waiting.append(op.output)
    return None


def rounded_constant(graph: Graph, constant: TensorId) -> FakeQuantConstant:
    """The op that rounds a layer's constant; one without a reason in `why_not_rounded`."""
    producer = graph.producer(constant)
    assert isinstance(producer, FakeQuantConstant)
    return producer


def rounding_grid(graph: Graph, op: FakeQuantConstant) -> Grid:
    """The values that a rounded constant may take."""
    return op.grid(*(graph.data(t) for t in op.inputs[1:]))


def round_trip(graph: Graph, tensor: TensorId, hint: str, qparams: QParams) -> TensorId:
    """quantize, dequantize, which stand for what the tensor does; the dequantized tensor."""
    return ir.round_trip(graph, tensor, hint, qparams, graph.tensor(tensor).origin)


def read_rounded(
    graph: Graph,
    tensor: TensorId,
    rounded: TensorId,
    readers: Sequence[Op],
    outputs: Sequence[str],
) -> None:
    """Let these readers and graph outputs of a tensor have it rounded instead."""
    for op in readers:
        graph.set_inputs(op, tuple(rounded if t == tensor else t for t in op.inputs))
    for name in outputs:
        graph.outputs[name] = rounded


def output_names(graph: Graph, tensor: TensorId) -> list[str]:
    """The public names under which the graph returns a tensor."""
    return [name for name, t in graph.outputs.items() if t == tensor]
