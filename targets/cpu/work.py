"""What a layer has to do, counted from the graph: multiplications, bytes, results."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, QConv2d, QDense
from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu.lower.i16.types import is_i16
from qcomp.targets.cpu.lower.residual import is_depthwise
from qcomp.targets.cpu.lower.weight_bits import fewest_code_bits
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.macs import macs

_BYTES = 4.0  # per nanosecond and lane, as machine.Rates


@dataclass(frozen=True)
class Work:
    """Of one op: `weight_bytes` are constants, `activation_bytes` operands and the result.

    Weights of few bits count as their codes. `results` are those of an epilogue of 16 bits, or
    values of 16 bits that are moved one by one.
    """

    macs: int
    weight_bytes: int
    activation_bytes: int
    results: int = 0

    def estimated_ns(self, isa: Isa, bits: int = 8) -> float:
        """Nanoseconds on one thread, roughly, with multiplied activations of so many bits."""
        rates = isa.machine.rates
        macs = rates.macs if bits <= 8 else rates.macs_16
        results = self.results / rates.results_16
        return (self.activation_bytes / _BYTES + self.macs / macs + results) / isa.lanes


def work_of(graph: Graph, id: TensorId) -> Work:
    """Of the op that makes the tensor; a graph's input is copied."""
    op = graph.producer(id)
    type = graph.type(id)
    if op is None:
        return Work(0, 0, 2 * type.bytes)
    constants = {t for t in op.inputs if graph.is_constant(t)}
    activations = set(op.inputs) - constants
    return Work(
        macs=macs(graph, op),
        weight_bytes=sum(_stored_bytes(graph, op, t) for t in constants),
        activation_bytes=sum(graph.type(t).bytes for t in activations) + type.bytes,
    )


def _stored_bytes(graph: Graph, op: Op, constant: TensorId) -> int:
    """Matrix products of i8 pack their weights."""
    bytes_ = graph.type(constant).bytes
    match op:
        case QConv2d() | QDense() if constant == op.weight and _packs(graph, op):
            return bytes_ * fewest_code_bits(graph.data(constant)) // 8
        case _:
            return bytes_


def _packs(graph: Graph, op: QConv2d | QDense) -> bool:
    return not is_depthwise(graph, op) and not is_i16(graph, op)
