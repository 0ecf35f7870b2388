"""The float graph that a QDQ graph quantizes, without quantization: its twin.

Constants have the values that their integers stand for; biases are the corrected ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, QuantizedConstant
from qcomp.ir.tensor import TensorId


@dataclass(frozen=True, eq=False)
class Twin:
    """`constants` has the ids of the values that quantized constants have become, by theirs."""

    graph: Graph
    constants: Mapping[TensorId, TensorId]


def float_twin(graph: Graph) -> Twin:
    """Tensors between ops keep their ids."""
    twin, constants = graph.clone(), dict[TensorId, TensorId]()
    for op in twin.ops():
        if isinstance(op, QuantizedConstant):
            values = MEANINGS[type(op)](op, *(twin.data(t) for t in op.inputs))
            origin = twin.tensor(op.output).origin
            constants[op.output] = twin.add_constant(f"{op.x}.values", values, origin)
            twin.replace_uses(op.output, constants[op.output])
        elif isinstance(op, Dequantize):
            (source,) = twin.op(op.x).inputs
            twin.replace_uses(op.output, source)
    twin.sweep()
    return Twin(twin, constants)
