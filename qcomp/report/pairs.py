"""Which float stands behind each integer tensor, and the float graph that rounds nothing.

A QDQ graph has both: `%t.q = quantize(%t)`, and its readers read `dequantize(%t.q)`. Lowering puts
an integer op in the place of each quantize, and the input itself in that of an input's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, Op, Quantize
from qcomp.ir.tensor import TensorId


def unrounded(qdq: Graph) -> Graph:
    """The graph without the rounding of activations; weights and biases stay as rounded."""
    graph = qdq.clone()
    for op in qdq.ops():
        if isinstance(op, Dequantize) and (real := behind(qdq, op.x)) is not None:
            graph.replace_uses(op.output, real)
    graph.sweep()
    return graph


def behind(qdq: Graph, id: TensorId) -> TensorId | None:
    """The float that a quantized tensor of a QDQ graph stands for; None for integers as given."""
    op = qdq.producer(id)
    while isinstance(op, Quantize):
        before = qdq.producer(op.x)
        if not isinstance(before, Dequantize):
            return op.x
        op = qdq.producer(before.x)
    return None


@dataclass(frozen=True, eq=False)
class Pairs:
    """A network in three forms, whose ids belong together.

    reference: what errors are taken against: a float graph with the ids of `qdq`.
    """

    reference: Graph
    qdq: Graph
    integer: Graph

    @cached_property
    def floats(self) -> Mapping[TensorId, TensorId]:
        """The float tensor of each integer tensor that stands for real numbers."""
        found: dict[TensorId, TensorId] = {}
        inputs = set(self.integer.inputs.values())
        for op in self.qdq.ops():
            if not isinstance(op, Quantize):
                continue
            real = behind(self.qdq, op.output)
            id = op.x if op.x in inputs else op.output
            if real is not None and real in self.reference and self._is_quantized(id):
                found[id] = real
        return found

    def _is_quantized(self, id: TensorId) -> bool:
        return id in self.integer and self.integer.tensor(id).qparams is not None

    def float_op(self, op: Op) -> Op | None:
        """What an integer op was lowered from, in the QDQ graph; None for a change of scale."""
        quantize = self.qdq.producer(op.output)
        made = self.qdq.producer(quantize.x) if isinstance(quantize, Quantize) else None
        return None if isinstance(made, Dequantize) else made

    def is_measured(self, op: Op) -> bool:
        """Whether the op's result, and all that it reads, stand for known floats."""
        ids = [op.output, *self.integer.activations(op)]
        return all(id in self.floats for id in ids)
