"""Fusing a residual addition into the epilogue of the convolution that makes one of its operands.

The kernel adds the other operand, which was computed before, while the sums are in registers; the
convolution's own result is never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QAdd, QWeighted
from qcomp.ir.tensor import TensorId
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.kernels.addition import Addition
from qcomp.targets.cpu.machine import Fusion, Isa
from qcomp.targets.cpu.storage import Storage


def is_depthwise(graph: Graph, op: QWeighted) -> bool:
    """One input channel and one output channel per group."""
    if op.groups == 1:
        return False
    return op.groups == graph.type(op.x).shape[3] == graph.type(op.weight).shape[0]


@dataclass(frozen=True)
class Residual:
    """The addition that is absorbed: its result, its other operand, its constants."""

    result: TensorId
    other: TensorId
    addition: Addition


def fused_residuals(graph: Graph, isa: Isa) -> Mapping[TensorId, Residual]:
    """By the id of the convolution or dense layer that absorbs the addition."""
    if Fusion.RESIDUAL not in isa.machine.fusions:
        return {}
    found: dict[TensorId, Residual] = {}
    computed = set(graph.inputs.values())
    for op in graph.ops():
        if isinstance(op, QWeighted) and op.requantize.form is Form.NARROW:
            add = graph.sole_consumer(op.output)
            if isinstance(add, QAdd) and not is_depthwise(graph, op):
                residual = _residual(graph, op, add, isa.machine.storage)
                if residual is not None and residual.other in computed:
                    found[op.id] = residual
        computed.add(op.output)
    return found


def _residual(graph: Graph, op: QWeighted, add: QAdd, storage: Storage) -> Residual | None:
    """None where the kernel can't do it: other shapes, or constants that mulhrs lacks."""
    own_first = add.a == op.output
    own_zero_point = add.a_zero_point if own_first else add.b_zero_point
    other = add.b if own_first else add.a
    same = graph.type(op.output) == graph.type(other) == graph.type(add.output)
    if not same or add.fraction_bits == 0 or own_zero_point != op.requantize.zero_point:
        return None
    if graph.producer(other) is None:  # the caller's memory, or a constant: no slack behind it
        return None
    multipliers = (add.a_multiplier, add.b_multiplier)
    own, others = multipliers if own_first else multipliers[::-1]
    addition = Addition(
        low=op.requantize.qmin - op.requantize.zero_point,
        high=op.requantize.qmax - op.requantize.zero_point,
        multiplier=own,
        other_multiplier=others,
        other_zero_point=add.b_zero_point if own_first else add.a_zero_point,
        fraction_bits=add.fraction_bits,
        zero_point=add.zero_point,
        qmin=add.qmin,
        qmax=add.qmax,
        other_origin=storage.value,
    )
    return Residual(add.output, other, addition)
