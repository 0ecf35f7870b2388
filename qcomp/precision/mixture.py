"""A float graph in which some parts are quantized, each as in a QDQ graph of the same network.

In a QDQ graph a weight stands behind `fake_quant_constant`, and the readers of an activation read
it through `quantize` and `dequantize`. These ops, and constants that passes have rounded or
corrected, are copied for the chosen parts; all else stays float. Ops have the same ids in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, Weighted
from qcomp.ir.tensor import TensorId
from qcomp.precision.parts import Kind, Part


def mixed(graph: Graph, sources: Mapping[Part, Graph]) -> Graph:
    """`graph` with each part of `sources` quantized as in the QDQ graph given for it."""
    weights = {p.id: g for p, g in sources.items() if p.kind is Kind.WEIGHTS}
    activations = {t: g for p, g in sources.items() if p.kind is Kind.ACTIVATION for t in p.members}
    result = graph.clone()
    copiers: list[Copier] = []

    def operand(op: Op, index: int) -> TensorId:
        id = op.inputs[index]
        if not graph.is_constant(id):
            source = activations.get(id)
        elif isinstance(op, Weighted):
            source = weights.get(op.id)
        else:
            source = activations.get(op.output)
        if source is None:
            return id
        return _copier(copiers, graph, source, result).copy(source.op(op.id).inputs[index])

    for op in graph.ops():
        operands = tuple(operand(op, i) for i in range(len(op.inputs)))
        if operands != op.inputs:
            result.set_inputs(op, operands)
    for name, id in graph.outputs.items():
        if id in activations:
            copier = _copier(copiers, graph, activations[id], result)
            result.outputs[name] = copier.copy(activations[id].outputs[name])
    return result


@dataclass
class Copier:
    """Copies into `result`, which has the tensors of the float `graph`, what stands between these
    and their readers in the QDQ graph `source`.
    """

    graph: Graph
    source: Graph
    result: Graph
    copies: dict[TensorId, TensorId] = field(default_factory=dict)

    def copy(self, id: TensorId) -> TensorId:
        """What a reader of `id` in the source reads in the result."""
        if id not in self.copies:
            self.copies[id] = self._copy(id)
        return self.copies[id]

    def _copy(self, id: TensorId) -> TensorId:
        tensor = self.source.tensor(id)
        known = id in self.graph
        if tensor.data is None and known:
            return id
        if tensor.data is not None:
            if known and self.graph.tensor(id).data is tensor.data:
                return id
            return self.result.add_constant(id, tensor.data, tensor.origin)
        op = self.source.op(id)
        inputs = tuple(self.copy(t) for t in op.inputs)
        copied = self.result.add_op(replace(op, inputs=inputs, output=self.result.fresh_id(id)))
        self.result.update_tensor(replace(tensor, id=copied))
        return copied


def _copier(copiers: list[Copier], graph: Graph, source: Graph, result: Graph) -> Copier:
    """The one for this source; there are few."""
    for copier in copiers:
        if copier.source is source:
            return copier
    copiers.append(Copier(graph, source, result))
    return copiers[-1]
