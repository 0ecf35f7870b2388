"""Integers of a file: constants, activations in other widths, and what clamps leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import ClampRange, FakeQuantConstant, IntegerConstant, QuantizedConstant
from qcomp.ir.tensor import Array
from qcomp.quant.grid import Grid
from qcomp.quant.qparams import QParams, integer_range, quantize

FUSED: Sequence[tuple[str, float, float]] = (
    ("NONE", -np.inf, np.inf),
    ("RELU", 0.0, np.inf),
    ("RELU_N1_TO_1", -1.0, 1.0),
    ("RELU6", 0.0, 6.0),
)
"""Clamps that operators may have fused, by number."""


@dataclass(frozen=True, eq=False)
class Integers:
    """The integers of a constant, and the scales [C] along an axis, or one, that they stand for."""

    data: Array
    scale: NDArray[np.float64]
    axis: int = 0
    zero_point: int = 0


def in_bits(q: QParams, bits: int) -> QParams:
    """In which an operand is read by an op of these bits: the same steps."""
    return q if q.bits == bits else QParams(q.scale, 0, *integer_range(bits))


def computed_in(q: QParams, bits: int) -> QParams:
    """Of a tensor that is computed in more bits than it is kept in: in steps 256 times finer, so
    that rounding again changes little.
    """
    if bits == q.bits:
        return q
    reach = max(abs(bound) for bound in q.range)
    return QParams(float(np.float32(reach / 32767)), 0, *integer_range(16))


def interval(clamp: ClampRange, made: QParams, wanted: QParams) -> tuple[int, int]:
    """The integers that results may be."""
    low, high = integer_range(made.bits)
    if wanted == made:
        low, high = wanted.qmin, wanted.qmax
    bounds = quantize(np.array([clamp.low, clamp.high], np.float32), made)
    return max(low, int(bounds[0])), min(high, int(bounds[1]))


def fused(low: int, high: int, q: QParams) -> int | None:
    """The number of the activation that leaves these integers, or None."""
    least, most = integer_range(q.bits)
    for number, (_, *bounds) in enumerate(FUSED):
        ends = quantize(np.array(bounds, np.float32), q)
        if (max(least, int(ends[0])), min(most, int(ends[1]))) == (low, high):
            return number
    return None


def stored(graph: Graph, op: QuantizedConstant) -> Integers:
    """The integers that a constant stands for; a zero point per channel is taken out of them."""
    data, scale = graph.data(op.x), graph.data(op.scale)
    if isinstance(op, FakeQuantConstant):
        grid: Grid = op.grid(*(graph.data(t) for t in op.inputs[1:]))
        return Integers(grid.integers(data), scale, op.axis)
    assert isinstance(op, IntegerConstant)
    zero = graph.data(op.zero_point).astype(np.int64)
    if scale.size == 1:
        return Integers(data.astype(np.int64), scale, op.axis, int(zero[0]))
    along = [1] * data.ndim
    along[op.axis] = -1
    return Integers(data.astype(np.int64) - zero.reshape(along), scale, op.axis)
