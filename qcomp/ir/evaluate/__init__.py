"""The meaning of every op in numpy: the oracle of all tests.

`MEANINGS` maps an op type to `meaning(op, *operands) -> result`; the operands, constants included,
are in the order of `op.inputs`. Of integer ops it is the specification of generated code. Quantize
and Dequantize are not in it: their parameters belong to the tensors, so `apply` reads them from the
graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.evaluate import (
    attention,
    border,
    choice,
    dynamic,
    embedding,
    integer_elementwise,
    integer_linear,
    integer_recurrent,
    movement,
    normalization,
    octaves,
    pooling,
    power,
    recurrent,
    reduction,
)
from qcomp.ir.evaluate import float as floats
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.ir.merged import merged
from qcomp.ir.ops import Dequantize, Op, Quantize
from qcomp.ir.tensor import Array, DType, TensorId, TensorType
from qcomp.quant.qparams import QParams, dequantize, quantize

__all__ = ["MEANINGS", "apply", "checked_inputs", "evaluate", "evaluate_all"]

MEANINGS: Mapping[type[Op], Callable[..., Array]] = merged(
    attention.MEANINGS,
    border.MEANINGS,
    choice.MEANINGS,
    dynamic.MEANINGS,
    embedding.MEANINGS,
    floats.MEANINGS,
    integer_elementwise.MEANINGS,
    integer_linear.MEANINGS,
    integer_recurrent.MEANINGS,
    movement.MEANINGS,
    normalization.MEANINGS,
    octaves.MEANINGS,
    pooling.MEANINGS,
    power.MEANINGS,
    recurrent.MEANINGS,
    reduction.MEANINGS,
)

EXEMPT: Exemptions = {
    Quantize: "its parameters are the result tensor's, which `apply` reads",
    Dequantize: "its parameters are the operand tensor's, which `apply` reads",
}


def evaluate(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by public name; a value is dropped after its last reader."""
    values = checked_inputs(graph, inputs)
    ops = graph.ops()
    uses = Counter(t for op in ops for t in set(op.inputs))
    uses.update(graph.outputs.values())
    for op in ops:
        values[op.output] = apply(graph, op, values)
        for t in set(op.inputs):
            uses[t] -= 1
            if not uses[t]:
                values.pop(t, None)
    return {name: _value(graph, values, t) for name, t in graph.outputs.items()}


def evaluate_all(graph: Graph, inputs: Mapping[str, Array]) -> dict[TensorId, Array]:
    """Every activation by tensor id: the graph's inputs and all results."""
    values = checked_inputs(graph, inputs)
    for op in graph.ops():
        values[op.output] = apply(graph, op, values)
    return values


def apply(graph: Graph, op: Op, values: Mapping[TensorId, Array]) -> Array:
    """The result of one op of the graph; `values` holds its operands that are not constants."""
    operands = [_value(graph, values, t) for t in op.inputs]
    if isinstance(op, Quantize):
        return quantize(operands[0], _qparams(graph, op.output))
    if isinstance(op, Dequantize):
        return dequantize(operands[0], _qparams(graph, op.x))
    return np.asarray(MEANINGS[type(op)](op, *operands))


def _value(graph: Graph, values: Mapping[TensorId, Array], id: TensorId) -> Array:
    data = graph.tensor(id).data
    return values[id] if data is None else data


def _qparams(graph: Graph, id: TensorId) -> QParams:
    qparams = graph.tensor(id).qparams
    if qparams is None:
        raise ValueError(f"%{id} has no qparams; expected a graph in form qdq")
    return qparams


def checked_inputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[TensorId, Array]:
    """The inputs by tensor id; ValueError unless names, shapes and types are the graph's."""
    if set(inputs) != set(graph.inputs):
        raise ValueError(f"expected the inputs {sorted(graph.inputs)}, got {sorted(inputs)}")
    for name, id in graph.inputs.items():
        expected, got = graph.type(id), inputs[name]
        if expected.dtype.numpy != got.dtype or expected.shape != got.shape:
            raise ValueError(f"input {name} must be {expected}, not {_described(got)}")
    return {id: inputs[name] for name, id in graph.inputs.items()}


def _described(x: Array) -> str:
    try:
        return str(TensorType(DType.of(x.dtype), x.shape))
    except ValueError:
        return f"{x.dtype}[{','.join(map(str, x.shape))}]"
