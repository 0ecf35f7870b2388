"""Propagate moments through each float op (see batch_norm.py for the assumptions)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcomp.calibration.normal import (
    added,
    clamped,
    combined,
    containing,
    joined,
    mapped,
    mixture,
    multiplied,
    normal,
    of_constant,
    pooled,
    scaled,
    selected,
    spread,
    uniform,
)
from qcomp.errors import CalibrationError
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
    PadMode,
    PRelu,
    Recurrent,
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
    Weighted,
    ZeroStuff,
)
from qcomp.ir.tensor import TensorId
from qcomp.ir.text import format_op
from qcomp.quant.moments import F64, Moments


@dataclass
class Beliefs:
    """The estimated moments of the activations that were visited so far."""

    graph: Graph
    known: dict[TensorId, Moments] = field(default_factory=dict)

    def channels(self, id: TensorId) -> int:
        shape = self.graph.type(id).shape
        return shape[-1] if shape else 1

    def read(self, id: TensorId, channels: int | None = None) -> Moments:
        """Moments of a tensor, spread over its channels or over `channels`."""
        own = self.channels(id)
        data = self.graph.tensor(id).data
        belief = spread(self.known[id] if data is None else of_constant(data, own), own)
        return belief if channels is None else spread(belief, channels)

    def infer(self, op: Op) -> Moments:
        """The belief about the op's result; CalibrationError if it has no finite bounds."""
        if type(op) not in RULES:
            raise CalibrationError(f"{format_op(self.graph, op)}\n  needs calibration data")
        with np.errstate(all="ignore"):
            belief = RULES[type(op)](self, op)
        if not np.isfinite([belief.low, belief.high, belief.mean, belief.std]).all():
            raise CalibrationError(
                f"{format_op(self.graph, op)}\n  may be infinite for operands in "
                f"{[self.read(t).range for t in op.inputs]}; give calibration data"
            )
        return belief


def _conv2d(beliefs: Beliefs, op: Conv2d) -> Moments:
    weight = beliefs.graph.data(op.weight).astype(np.float64)
    x = beliefs.read(op.x)
    per_output = weight.shape[0] // op.groups
    first = np.repeat(np.arange(op.groups), per_output) * weight.shape[3]
    channel = first[:, None] + np.arange(weight.shape[3])  # [O, I]: which channel of x it reads
    gain = weight.sum(axis=(1, 2))
    power = np.maximum((weight**2).sum(axis=(1, 2)), gain**2)
    return _weighted_sum(beliefs, op, gain, power, x.mean[channel], x.std[channel])


def _dense(beliefs: Beliefs, op: Dense) -> Moments:
    weight = beliefs.graph.data(op.weight).astype(np.float64)
    x = beliefs.read(op.x)
    return _weighted_sum(beliefs, op, weight, weight**2, x.mean[None], x.std[None])


def _weighted_sum(
    beliefs: Beliefs, op: Weighted, gain: F64, power: F64, mean: F64, std: F64
) -> Moments:
    bias = beliefs.graph.data(op.bias).astype(np.float64)
    result = normal((gain * mean).sum(axis=1) + bias, np.sqrt((power * std**2).sum(axis=1)))
    return clamped(result, op.clamp)


def _matmul(beliefs: Beliefs, op: MatMul) -> Moments:
    a, b = beliefs.read(op.a), beliefs.read(op.b)
    inner = beliefs.channels(op.a)
    column, row = np.arange(inner)[:, None], np.arange(beliefs.channels(op.b))[None]
    product = multiplied(selected(a, column), selected(b, row))
    return normal(product.mean.sum(axis=0), np.sqrt((product.std**2).sum(axis=0)))


def _batch_norm(beliefs: Beliefs, op: BatchNorm) -> Moments:
    beta, gamma = beliefs.graph.data(op.beta), beliefs.graph.data(op.gamma)
    return normal(beta.astype(np.float64), np.abs(gamma.astype(np.float64)))


def _clamp(beliefs: Beliefs, op: Clamp) -> Moments:
    return clamped(beliefs.read(op.x), op.clamp)


def _unary(beliefs: Beliefs, op: Unary) -> Moments:
    return mapped(beliefs.read(op.x), lambda v: FUNCTIONS[op.function](v, op.alpha, op.beta))


def _prelu(beliefs: Beliefs, op: PRelu) -> Moments:
    x = beliefs.read(op.x)
    slopes = beliefs.read(op.slope, x.mean.size)

    def with_slope(slope: F64) -> Moments:
        return mapped(x, lambda v: np.where(v >= 0, v, v * slope))

    return mixture([with_slope(slopes.low), with_slope(slopes.high)])


_Pairwise = Callable[[Moments, Moments], Moments]


def _binary(function: _Pairwise) -> Callable[[Beliefs, Any], Moments]:
    def rule(beliefs: Beliefs, op: Binary) -> Moments:
        channels = beliefs.channels(op.output)
        a, b = beliefs.read(op.a, channels), beliefs.read(op.b, channels)
        return clamped(function(a, b), op.clamp)

    return rule


def _mul(beliefs: Beliefs, op: Mul) -> Moments:
    """A square is no product of independent values, and not negative."""
    if op.a == op.b:
        return clamped(mapped(beliefs.read(op.a), np.square), op.clamp)
    return _binary(multiplied)(beliefs, op)


def _divided(a: Moments, b: Moments) -> Moments:
    """a / b; the bounds are infinite where the interval of b encloses zero."""
    result = combined(a, b, np.divide)
    unbounded = (b.low <= 0) & (b.high >= 0)
    return Moments(result.mean, result.std, result.low, np.where(unbounded, np.inf, result.high))


def _compare(beliefs: Beliefs, op: Compare) -> Moments:
    return spread(uniform(0.0, 1.0), beliefs.channels(op.output))


def _select(beliefs: Beliefs, op: Select) -> Moments:
    channels = beliefs.channels(op.output)
    return mixture([beliefs.read(t, channels) for t in (op.a, op.b)])


def _embedding(beliefs: Beliefs, op: Embedding) -> Moments:
    """Every row is as likely."""
    table, channels = beliefs.graph.data(op.table), beliefs.channels(op.output)
    if table.ndim == 1:
        return spread(of_constant(table, 1), channels)
    return of_constant(table, channels)


def _recurrent(beliefs: Beliefs, op: Recurrent) -> Moments:
    """Bounded activations bound the hidden state; a cell state has no bound but by the steps."""
    if op.tail or not op.is_bounded:
        raise CalibrationError(
            f"{format_op(beliefs.graph, op)}\n  has states that nothing bounds; needs calibration "
            "data"
        )
    return spread(uniform(-1.0, 1.0), beliefs.channels(op.output))


def _unchanged(beliefs: Beliefs, op: Any) -> Moments:
    """Values move, or are averaged or chosen within a channel, and stay in their bounds."""
    return beliefs.read(op.x, beliefs.channels(op.output))


def _average_pool(beliefs: Beliefs, op: AveragePool2d) -> Moments:
    x = beliefs.read(op.x)
    return containing(x, 0.0) if op.count_include_pad and any(op.padding) else x


def _reduce(beliefs: Beliefs, op: Reduce) -> Moments:
    shape = beliefs.graph.type(op.x).shape
    x = beliefs.read(op.x)
    if len(shape) - 1 in op.axes:
        x = spread(pooled(x), beliefs.channels(op.output))
    terms = math.prod(shape[axis] for axis in op.axes)
    return scaled(x, float(terms)) if op.kind is Reduction.SUM else x


def _attention(beliefs: Beliefs, op: Attention) -> Moments:
    """A mean of v has its mean, and less than its spread."""
    return beliefs.read(op.v)


def _softmax(beliefs: Beliefs, op: Softmax) -> Moments:
    share = 1.0 / beliefs.graph.type(op.x).shape[op.axis]
    unit = spread(uniform(0.0, 1.0), beliefs.channels(op.output))
    return Moments(np.full_like(unit.mean, share), unit.std * share, unit.low, unit.high)


def _normalize(beliefs: Beliefs, op: Normalize) -> Moments:
    """Groups have a mean of 0 and a deviation of 1, as batch normalisation makes channels."""
    channels = beliefs.channels(op.output)
    unit = spread(normal(np.zeros(1), np.ones(1)), channels)
    gamma, beta = (beliefs.read(t, channels) for t in (op.gamma, op.beta))
    return clamped(added(multiplied(unit, gamma), beta), op.clamp)


def _abs_max(beliefs: Beliefs, op: AbsMax) -> Moments:
    """Some of the largest values are as large as any."""
    largest = max(abs(bound) for bound in beliefs.read(op.x).range)
    return spread(uniform(0.0, largest), beliefs.channels(op.output))


def _scale_down(beliefs: Beliefs, op: ScaleDown) -> Moments:
    """As if all had the largest scale."""
    largest = max(abs(bound) for bound in beliefs.read(op.scale).range)
    return scaled(beliefs.read(op.x), 1.0 / largest if largest > 0.0 else 1.0)


def _scale_up(beliefs: Beliefs, op: ScaleUp) -> Moments:
    largest = max(abs(bound) for bound in beliefs.read(op.scale).range)
    x = scaled(beliefs.read(op.x), largest)
    return clamped(added(x, beliefs.read(op.bias, beliefs.channels(op.output))), op.clamp)


def _log_softmax(beliefs: Beliefs, op: LogSoftmax) -> Moments:
    low, high = beliefs.read(op.x).range
    least = low - high - math.log(beliefs.graph.type(op.x).shape[op.axis])
    return spread(uniform(least, 0.0), beliefs.channels(op.output))


def _concat(beliefs: Beliefs, op: Concat) -> Moments:
    parts = [beliefs.read(t) for t in op.inputs]
    last = beliefs.graph.type(op.output).rank - 1
    return joined(parts) if op.axis == last else mixture(parts)


def _slice(beliefs: Beliefs, op: Slice) -> Moments:
    return selected(beliefs.read(op.x), op.starts[-1] + op.steps[-1] * np.arange(op.sizes[-1]))


def _gather(beliefs: Beliefs, op: Gather) -> Moments:
    x = beliefs.read(op.x)
    last = beliefs.graph.type(op.x).rank - 1
    return selected(x, beliefs.graph.data(op.indices)) if op.axis == last else x


def _pad(beliefs: Beliefs, op: Pad) -> Moments:
    grows = op.before[-1] + op.after[-1] > 0
    x = pooled(beliefs.read(op.x)) if grows else beliefs.read(op.x)
    x = spread(x, beliefs.channels(op.output))
    return containing(x, op.value) if op.mode is PadMode.CONSTANT else x


def _zero_stuff(beliefs: Beliefs, op: ZeroStuff) -> Moments:
    return containing(beliefs.read(op.x), op.value)


def _reshape(beliefs: Beliefs, op: Reshape) -> Moments:
    """Flattening pixels into channels repeats the channels; anything else mixes them."""
    x, channels = beliefs.read(op.x), beliefs.channels(op.output)
    if channels % x.mean.size == 0:
        return selected(x, np.arange(channels) % x.mean.size)
    return spread(x, channels)


def _transpose(beliefs: Beliefs, op: Transpose) -> Moments:
    x = beliefs.read(op.x)
    kept = op.permutation[-1] == len(op.permutation) - 1
    return x if kept else spread(pooled(x), beliefs.channels(op.output))


def _tile(beliefs: Beliefs, op: Tile) -> Moments:
    x = beliefs.read(op.x)
    return selected(x, np.arange(beliefs.channels(op.output)) % x.mean.size)


RULES: Mapping[type[Op], Callable[[Beliefs, Any], Moments]] = {
    Conv2d: _conv2d,
    Dense: _dense,
    MatMul: _matmul,
    BatchNorm: _batch_norm,
    Clamp: _clamp,
    Unary: _unary,
    PRelu: _prelu,
    Add: _binary(added),
    Sub: _binary(lambda a, b: added(a, b, -1.0)),
    Mul: _mul,
    Div: _binary(_divided),
    Minimum: _binary(lambda a, b: combined(a, b, np.minimum)),
    Maximum: _binary(lambda a, b: combined(a, b, np.maximum)),
    Compare: _compare,
    Select: _select,
    MaxPool2d: _unchanged,
    AveragePool2d: _average_pool,
    Reduce: _reduce,
    Softmax: _softmax,
    Normalize: _normalize,
    AbsMax: _abs_max,
    ScaleDown: _scale_down,
    ScaleUp: _scale_up,
    Attention: _attention,
    LogSoftmax: _log_softmax,
    Concat: _concat,
    Slice: _slice,
    Embedding: _embedding,
    Gru: _recurrent,
    Lstm: _recurrent,
    Rnn: _recurrent,
    Gather: _gather,
    Pad: _pad,
    ZeroStuff: _zero_stuff,
    Reshape: _reshape,
    Transpose: _transpose,
    Tile: _tile,
    BroadcastTo: _unchanged,
    Resize2d: _unchanged,
    DepthToSpace: _unchanged,
    SpaceToDepth: _unchanged,
}

EXEMPT: Exemptions = {
    Domain.INTEGER: "is made after ranges are known",
    Domain.BORDER: "is made after ranges are known",
    ArgMax: "its result is no f32 activation",
    LogPower: "needs calibration data: beliefs of squares say nothing of the smallest",
}
