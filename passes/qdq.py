"""Reading the QDQ form: the qparams of an op's operands and result, the grids of its constants."""

from __future__ import annotations

from qcomp.errors import PassError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, FakeQuantConstant, Quantize
from qcomp.ir.tensor import TensorId
from qcomp.quant.grid import Grid
from qcomp.quant.qparams import QParams


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


def rounding_grid(graph: Graph, op: FakeQuantConstant) -> Grid:
    """The values that a rounded constant may take."""
    return op.grid(*(graph.data(t) for t in op.inputs[1:]))
