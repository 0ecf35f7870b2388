"""quantize and dequantize, one behind the other: the integers of a float tensor."""

from __future__ import annotations

from dataclasses import replace

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, Quantize
from qcomp.ir.tensor import Origin, TensorId
from qcomp.quant.qparams import QParams


def round_trip(
    graph: Graph, tensor: TensorId, hint: str, qparams: QParams, origin: Origin | None
) -> TensorId:
    """The id of the dequantized tensor; `origin` is that of both results."""
    output = graph.fresh_id(f"{hint}.q")
    quantized = graph.add_op(Quantize(inputs=(tensor,), output=output, bits=qparams.bits), origin)
    graph.update_tensor(replace(graph.tensor(quantized), qparams=qparams))
    read_back = Dequantize(inputs=(quantized,), output=graph.fresh_id(f"{hint}.dq"))
    return graph.add_op(read_back, origin)
