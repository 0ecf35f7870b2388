"""Fusing `min(x, constant per channel)` into the epilogue of the convolution that makes x.

Cross-layer equalization turns a ReLU6 into such a minimum. The kernel clamps once more before it
stores, and the tensor between the two ops is never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QMinimum, QWeighted
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import integer_range
from qcomp.targets.cpu.lower.i16.types import is_i16
from qcomp.targets.cpu.lower.i32.types import is_i32
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True, eq=False)
class Ceiling:
    """The minimum that is absorbed, and its constants, i32 [channels]."""

    result: TensorId
    values: NDArray[np.int32]


def fused_ceilings(graph: Graph, isa: Isa) -> Mapping[TensorId, Ceiling]:
    """By the id of the convolution or dense layer that absorbs the minimum."""
    found: dict[TensorId, Ceiling] = {}
    for op in graph.ops():
        if (
            not isinstance(op, QWeighted)
            or is_i32(graph, op)
            or (is_i16(graph, op) and not isa.machine.ceilings_16)
        ):
            continue
        minimum, bits = graph.sole_consumer(op.output), 8 * graph.type(op.output).dtype.bytes
        if isinstance(minimum, QMinimum) and (minimum.qmin, minimum.qmax) == integer_range(bits):
            values = _per_channel(graph, minimum, op.output)
            if values is not None:
                found[op.id] = Ceiling(minimum.output, values)
    return found


def _per_channel(graph: Graph, op: QMinimum, tensor: TensorId) -> NDArray[np.int32] | None:
    """The constant operand as i32 [channels], or None where it varies over other axes."""
    other = op.b if op.a == tensor else op.a
    data = graph.tensor(other).data
    type = graph.type(tensor)
    if data is None or graph.type(op.output) != type or data.size not in (1, data.shape[-1]):
        return None
    return np.broadcast_to(data.reshape(-1), type.shape[-1:]).astype(np.int32)
