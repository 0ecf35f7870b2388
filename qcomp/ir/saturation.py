"""Which part of an operand an op tells apart: beyond it the operand may saturate.

An activation needs integers for the values that its readers tell apart, and for no others: a
sigmoid is flat beyond its bend, a softmax gives nothing to what lies far below the largest value
of its row. SEEN has a rule for each op type that leaves something out; the others, with the reason,
are in EXEMPT. What is needed of a result comes from its own readers, so needs go backward through
a graph: the mask that is added to the scores of an attention needs no more than the softmax does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    AbsMax,
    Add,
    ArgMax,
    Attention,
    AveragePool2d,
    BatchNorm,
    Binary,
    BroadcastTo,
    Clamp,
    Compare,
    Concat,
    Conv2d,
    Dense,
    DepthToSpace,
    Div,
    Domain,
    Embedding,
    Gather,
    Gru,
    LogPower,
    LogSoftmax,
    Lstm,
    MatMul,
    Maximum,
    MaxPool2d,
    Minimum,
    Mul,
    Normalize,
    Op,
    Pad,
    PRelu,
    Reduce,
    Reduction,
    Reshape,
    Resize2d,
    Rnn,
    ScaleDown,
    ScaleUp,
    Select,
    Slice,
    Softmax,
    SpaceToDepth,
    Sub,
    Tile,
    Transpose,
    Unary,
    ZeroStuff,
)
from qcomp.ir.ops.attention import EXCLUDES, Mask
from qcomp.ir.tensor import TensorId

Interval = tuple[float, float]
F64 = NDArray[np.float64]

WHOLE: Interval = (-math.inf, math.inf)
SOFTMAX_DEPTH = 16.0
"""exp(-16) is a tenth of a step of a softmax of 16 bits over 10 values."""

NOT_AT_ALL = -(2.0**100)
"""Stands for -inf in a mask: no score is seen beside it, and several add up to a finite number.

Exporters write other numbers, so that what was infinite can be told from them.
"""

_GRID = 4097
_MARGIN = 1 / 64  # of an operand's width, beyond what it is compared with


@dataclass(frozen=True)
class Reading:
    """What is known where an op reads one of its operands.

    index: of the operand.
    operands: an interval that holds each operand's values.
    result: one that holds the result's.
    needed: the part of the result outside of which it saturates.
    tolerance: by how much the result may move.
    peak: the smallest of the operand's maxima along the axis of the op, where data tells.
    """

    index: int
    operands: tuple[Interval, ...]
    result: Interval
    needed: Interval
    tolerance: float
    peak: float | None = None

    @property
    def operand(self) -> Interval:
        return self.operands[self.index]

    @property
    def other(self) -> Interval:
        """The other operand of an op of two."""
        return self.operands[1 - self.index]


Seen = Callable[[Reading, Any], Interval]


def intersection(a: Interval, b: Interval) -> Interval:
    """The values in both; of two that don't meet, the end of `a` next to `b`."""
    low = min(max(a[0], b[0]), a[1])
    return low, max(min(a[1], b[1]), low)


def _unary(reading: Reading, op: Unary) -> Interval:
    function = FUNCTIONS[op.function]
    return _bend(reading, lambda x: np.asarray(function(x, op.alpha, op.beta), np.float64))


def _clamp(reading: Reading, op: Clamp) -> Interval:
    return _bend(reading, lambda x: np.clip(x, op.clamp.low, op.clamp.high))


def _sum(reading: Reading, op: Add) -> Interval:
    """a + b saturates wherever a does, if b can't bring it back."""
    low, high = _saturated(reading, op)
    return low - reading.other[1], high - reading.other[0]


def _difference(reading: Reading, op: Sub) -> Interval:
    low, high = _saturated(reading, op)
    if reading.index == 0:
        return low + reading.other[0], high + reading.other[1]
    return reading.other[0] - high, reading.other[1] - low


def _product(reading: Reading, op: Mul) -> Interval:
    """a * b saturates where it does for every b, if these have one sign."""
    (low, high), (least, most) = _saturated(reading, op), reading.other
    if most < 0:
        low, high, least, most = -high, -low, -most, -least
    if least <= 0:
        return WHOLE
    return low / (least if low < 0 else most), high / (least if high > 0 else most)


def _quotient(reading: Reading, op: Div) -> Interval:
    """As a product, for the dividend; the largest divisors give the smallest results."""
    if reading.index == 1:
        return WHOLE
    (low, high), (least, most) = _saturated(reading, op), reading.other
    if most < 0:
        low, high, least, most = -high, -low, -most, -least
    if least <= 0:
        return WHOLE
    return low * (most if low < 0 else least), high * (most if high > 0 else least)


def _saturated(reading: Reading, op: Binary) -> Interval:
    """Where the result saturates before its clamp."""
    return max(reading.needed[0], op.clamp.low), min(reading.needed[1], op.clamp.high)


def _moved(reading: Reading, op: Op) -> Interval:
    """The result's values are among the operand's."""
    return reading.needed


def _extreme(reading: Reading, op: Minimum | Maximum) -> Interval:
    """What is beyond the result's range comes out as the other operand."""
    return intersection(reading.result, reading.needed)


def _select(reading: Reading, op: Select) -> Interval:
    """The condition is told apart from 0."""
    return WHOLE if reading.index == 0 else reading.needed


def _compare(reading: Reading, op: Compare) -> Interval:
    """What lies beyond all that it is compared with, on either side; a margin tells the sides."""
    margin = (reading.operand[1] - reading.operand[0]) * _MARGIN
    return reading.other[0] - margin, reading.other[1] + margin


def _reduce(reading: Reading, op: Reduce) -> Interval:
    return reading.needed if op.kind in (Reduction.MAX, Reduction.MIN) else WHOLE


def _softmax(reading: Reading, op: Softmax) -> Interval:
    """What lies far below the largest value of its row gives nothing."""
    return WHOLE if reading.peak is None else (reading.peak - SOFTMAX_DEPTH, math.inf)


def _attention(reading: Reading, op: Attention) -> Interval:
    """A number added to scores excludes, however small; all else is linear, or a condition."""
    kinds = (None, None, None, *op.masks)
    return (2 * EXCLUDES, math.inf) if kinds[reading.index] is Mask.ADDED else WHOLE


def _bend(reading: Reading, function: Callable[[F64], F64]) -> Interval:
    """[a, b] within the operand outside of which the function moves by at most the tolerance."""
    whole = reading.operand
    x = np.linspace(whole[0], whole[1], _GRID)
    with np.errstate(all="ignore"):
        y = np.clip(function(x), *reading.needed)
    if not np.isfinite(y).all():
        return WHOLE
    first = _flat_until(y, reading.tolerance)
    last = _GRID - 1 - _flat_until(y[::-1], reading.tolerance)
    if first >= last:  # constant to within the tolerance
        return WHOLE
    return float(x[first]), float(x[last])


def _flat_until(y: F64, tolerance: float) -> int:
    """The largest i with |y[j] - y[i]| <= tolerance for all j <= i."""
    spread = np.maximum(np.maximum.accumulate(y) - y, y - np.minimum.accumulate(y))
    return int(np.flatnonzero(spread <= tolerance)[-1])


SEEN: Mapping[type[Op], Seen] = {
    Unary: _unary,
    Clamp: _clamp,
    Add: _sum,
    Sub: _difference,
    Mul: _product,
    Div: _quotient,
    Minimum: _extreme,
    Maximum: _extreme,
    Select: _select,
    Compare: _compare,
    Softmax: _softmax,
    Attention: _attention,
    Reduce: _reduce,
    MaxPool2d: _moved,
    Reshape: _moved,
    Transpose: _moved,
    Concat: _moved,
    Slice: _moved,
    Pad: _moved,
    Gather: _moved,
    BroadcastTo: _moved,
    Tile: _moved,
    DepthToSpace: _moved,
    SpaceToDepth: _moved,
    ZeroStuff: _moved,
}

EXEMPT: Exemptions = {
    Domain.INTEGER: "ranges belong to floats",
    Domain.BORDER: "ranges belong to floats",
    ArgMax: "the largest value may be anywhere",
    AveragePool2d: "a mean takes all of each value",
    BatchNorm: "is linear",
    Conv2d: "is linear",
    Dense: "is linear",
    Normalize: "takes all of each value",
    AbsMax: "takes all of each value",
    ScaleDown: "takes all of each value",
    ScaleUp: "is linear",
    MatMul: "is linear in each operand",
    PRelu: "is linear on both sides of zero",
    Embedding: "tells whole numbers apart",
    LogPower: "its logarithm tells small values apart as large ones",
    Gru: "its sums reach every later step",
    Lstm: "its sums reach every later step",
    Rnn: "its sums reach every later step",
    LogSoftmax: "goes on linearly however small a value is",
    Resize2d: "a mean of neighbours takes all of each value",
}


def seen(op: Op, reading: Reading) -> Interval:
    """The part of the operand that an op with a row tells apart."""
    return intersection(reading.operand, SEEN[type(op)](reading, op))


def hides_lowest(graph: Graph, id: TensorId) -> bool:
    """Whether only softmaxes read a tensor, if by sums and copies: -inf in it is "not at all"."""
    readers = graph.consumers(id)
    if not readers or graph.is_output(id):
        return False
    return all(
        type(op) is Softmax
        or _excludes(op, id)
        or (_keeps_lowest(graph, op, id) and hides_lowest(graph, op.output))
        for op in readers
    )


def _excludes(op: Op, id: TensorId) -> bool:
    """Whether an attention reads a tensor as numbers that are added to its scores, and no other."""
    if not isinstance(op, Attention):
        return False
    kinds = (None, None, None, *op.masks)
    return all(kinds[i] is Mask.ADDED for i, t in enumerate(op.inputs) if t == id)


def _keeps_lowest(graph: Graph, op: Op, id: TensorId) -> bool:
    """Whether -inf in the operand is -inf in the result."""
    match op:
        case Add():
            return True
        case Sub():
            return op.b != id
        case Select():
            return op.condition != id
        case Mul():
            return _is_positive(graph, op.a if op.b == id else op.b)
        case Div():
            return _is_positive(graph, op.b)
        case _:
            return op.copies_integers


def _is_positive(graph: Graph, id: TensorId) -> bool:
    data = graph.tensor(id).data
    return data is not None and bool((data > 0).all())
