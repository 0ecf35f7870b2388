"""The QDQ form: qparams of operands and results, grids of constants, rounding of activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qcomp.errors import PassError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, FakeQuantConstant, Op, Quantize
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


def round_trip(graph: Graph, tensor: TensorId, hint: str, qparams: QParams) -> TensorId:
    """quantize, dequantize; the id of the dequantized tensor."""
    origin = graph.tensor(tensor).origin
    output = graph.fresh_id(f"{hint}.q")
    quantized = graph.add_op(Quantize(inputs=(tensor,), output=output, bits=qparams.bits), origin)
    graph.update_tensor(replace(graph.tensor(quantized), qparams=qparams))
    read_back = Dequantize(inputs=(quantized,), output=graph.fresh_id(f"{hint}.dq"))
    return graph.add_op(read_back, origin)


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
