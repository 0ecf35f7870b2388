"""Layers whose results attention averages, channel by channel: V of a transformer.

What follows such a layer, movements, attention and products with weights from the left, keeps a
factor per channel. The channels of the end are found by numbering those of the layer and moving the
numbers as values are moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.graph import Graph
from qcomp.ir.ops import NO_CLAMP, Attention, Dense, MatMul, Op, Reshape, Slice, Transpose
from qcomp.ir.ops.movement import BroadcastTo, Tile
from qcomp.ir.tensor import TensorId

_MOVEMENTS = (BroadcastTo, Reshape, Slice, Tile, Transpose)
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class AveragedLayer:
    """`channels` are those of the layer that each channel of the averages comes from."""

    layer: Dense
    channels: Indices


def averaged_layer(graph: Graph, source: TensorId) -> AveragedLayer | None:
    """The layer that a tensor has averages of, if nothing else reads it on the way."""
    path: list[Op] = []
    at, averages = source, False
    while not isinstance(op := graph.producer(at), Dense):
        averaged = None if op is None else _averaged(graph, op)
        if op is None or averaged is None or graph.is_output(averaged):
            return None
        if [reader.id for reader in graph.consumers(averaged)] != [op.id]:
            return None
        path.append(op)
        averages |= not isinstance(op, _MOVEMENTS)
        at = averaged
    if not averages or op.clamp != NO_CLAMP:
        return None
    channels = _channels(graph, op, path[::-1])
    return None if channels is None else AveragedLayer(op, channels)


def _averaged(graph: Graph, op: Op) -> TensorId | None:
    """The operand whose channels the result has."""
    if isinstance(op, _MOVEMENTS):
        return op.x
    if isinstance(op, Attention):
        return op.v
    if isinstance(op, MatMul) and not graph.is_constant(op.b):
        return op.b
    return None


def _channels(graph: Graph, layer: Dense, path: list[Op]) -> Indices | None:
    """None where a channel of the end has parts of several channels of the layer."""
    shape = graph.type(layer.output).shape
    numbers = np.broadcast_to(np.arange(shape[-1]), shape)
    for op in path:
        if isinstance(op, _MOVEMENTS):
            numbers = np.asarray(MEANINGS[type(op)](op, numbers))
        elif isinstance(op, Attention):  # [batch, key, head, element] to those of queries
            if (numbers != numbers[:, :1]).any():
                return None
            shape = graph.type(op.output).shape
            heads = np.repeat(numbers[:, :1], shape[2] // numbers.shape[2], axis=2)
            numbers = np.broadcast_to(heads, shape)
        else:
            if (numbers != numbers[..., :1, :]).any():
                return None
            numbers = np.broadcast_to(numbers[..., :1, :], graph.type(op.output).shape)
    rows = numbers.reshape(-1, numbers.shape[-1])
    return None if (rows != rows[0]).any() else rows[0].astype(np.intp)
