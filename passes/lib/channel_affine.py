"""Ops that are one affine function per channel: y = scale[c] * x + shift[c].

batch norm    gamma * (x - mean) / sqrt(var + eps) + beta
              scale = gamma / sqrt(var + eps),  shift = beta - scale * mean
x * k, x / k, x + k, x - k, k - x    k a constant with one value per channel (or one in all)
alpha * x + beta                     one value in all
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    Add,
    BatchNorm,
    Binary,
    ClampRange,
    Div,
    Function,
    Mul,
    Op,
    Sub,
    Unary,
)
from qcomp.ir.tensor import NormalStatistics, TensorId

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelAffine:
    """clamp(scale * x + shift) over the last axis; `scale` and `shift` are [C] in float64.

    `imposed` is what a batch norm tells of its own result.
    """

    x: TensorId
    scale: F64
    shift: F64
    clamp: ClampRange = NO_CLAMP
    imposed: NormalStatistics | None = None

    @property
    def is_uniform(self) -> bool:
        """Whether all channels have the same scale and shift."""
        return bool((self.scale == self.scale[0]).all() and (self.shift == self.shift[0]).all())

    def statistics(self, before: NormalStatistics | None) -> NormalStatistics | None:
        """Mean and deviation of the result: imposed by a batch norm, else from those of x."""
        if self.imposed is not None or before is None:
            return self.imposed
        return NormalStatistics(
            mean=self.scale * before.mean + self.shift, std=np.abs(self.scale) * before.std
        )


def channel_affine(graph: Graph, op: Op) -> ChannelAffine | None:
    """The op as one affine function per channel, or None. The numbers may be non-finite."""
    match op:
        case BatchNorm():
            return of_batch_norm(graph, op)
        case Add() | Sub() | Mul() | Div():
            return _binary(graph, op)
        case Unary(function=Function.AFFINE):
            channels = _channels(graph, op)
            return ChannelAffine(op.x, np.full(channels, op.alpha), np.full(channels, op.beta))
    return None


def of_batch_norm(graph: Graph, op: BatchNorm) -> ChannelAffine:
    """Of its last axis. The numbers may be non-finite."""
    gamma, beta, mean, var = (graph.data(t).astype(np.float64) for t in op.inputs[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(var + op.eps)
        shift = beta - scale * mean
    return ChannelAffine(op.x, scale, shift, imposed=NormalStatistics(mean=beta, std=np.abs(gamma)))


def _binary(graph: Graph, op: Binary) -> ChannelAffine | None:
    if graph.is_constant(op.a) == graph.is_constant(op.b):
        return None
    x, k = (op.b, op.a) if graph.is_constant(op.a) else (op.a, op.b)
    if graph.type(x) != graph.type(op.output) or not graph.type(x).shape:
        return None
    channels = _channels(graph, op)
    shape = graph.type(k).shape
    if shape[:-1] != (1,) * len(shape[:-1]) or shape[-1:] not in ((), (1,), (channels,)):
        return None
    values = np.broadcast_to(graph.data(k).astype(np.float64).reshape(-1), channels)
    found = with_constant(op, k, values)
    return None if found is None else ChannelAffine(x, *found, op.clamp)


def with_constant(op: Binary, k: TensorId, values: F64) -> tuple[F64, F64] | None:
    """Scale and shift of an op with the constant operand k; None for other than these."""
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    match op:
        case Add():
            return ones, values
        case Sub():
            return (-ones, values) if k == op.a else (ones, -values)
        case Mul():
            return values, zeros
        case Div() if k == op.b:
            with np.errstate(divide="ignore"):
                return ones / values, zeros
    return None


def _channels(graph: Graph, op: Op) -> int:
    return graph.type(op.output).shape[-1] if graph.type(op.output).shape else 1
