"""A flatten in front of dense layers: the weights' columns take over the order of the axes.

    Let y flatten [N, C, H, W] to [N, C*H*W], and the value be held as [N, H, W, C]. The same
    reshape of the held value is y'[n, k] = y[n, order[k]], and
    sum_k W[o, k] y[n, k] = sum_k W[o, order[k]] y'[n, k].

Clamps and unary functions may stand between; they do not care about the order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Clamp, Dense, Op, Reshape, Unary
from qcomp.ir.tensor import Mark, TensorId
from qcomp.passes.lib.layout.permutation import Permutation, Shape, inverse


@dataclass(frozen=True, eq=False)
class DenseColumns:
    """The dense layers behind a reshape, the values up to them, and the new order of columns."""

    layers: tuple[TensorId, ...]
    values: tuple[TensorId, ...]
    order: NDArray[np.int64]


def absorbing_dense(graph: Graph, op: Op, twist: Permutation) -> DenseColumns | None:
    """The reordering of dense columns that lets a reshape read its operand as held, or None."""
    if not isinstance(op, Reshape) or not op.shape:
        return None
    order = column_order(graph.type(op.x).shape, twist, op.shape)
    layers, values = _dense_readers(graph, op.output)
    return None if order is None or not layers else DenseColumns(layers, values, order)


def column_order(shape: Shape, twist: Permutation, target: Shape) -> NDArray[np.int64] | None:
    """order with Reshape(h, target)[..., k] = Reshape(v, target)[..., order[k]], if it exists."""
    columns = target[-1]
    flat = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    rows = flat.transpose(inverse(twist)).reshape(-1, columns)
    order = rows[0]
    expected = np.arange(len(rows), dtype=np.int64)[:, None] * columns + order
    inside = order.min() >= 0 and order.max() < columns
    return np.ascontiguousarray(order) if inside and np.array_equal(rows, expected) else None


def _dense_readers(
    graph: Graph, value: TensorId
) -> tuple[tuple[TensorId, ...], tuple[TensorId, ...]]:
    """All readers through elementwise ops, if they are dense layers with constant weights.

    And the values that they and the elementwise ops read.
    """
    layers: list[TensorId] = []
    values: list[TensorId] = []
    queue = [value]
    while queue:
        t = queue.pop()
        values.append(t)
        if graph.is_output(t):
            return (), ()
        for reader in graph.consumers(t):
            if isinstance(reader, Dense):
                layers.append(reader.id)
            elif isinstance(reader, Clamp | Unary):
                queue.append(reader.output)
            else:
                return (), ()
    return tuple(layers), tuple(values)


def reorder_columns(graph: Graph, columns: DenseColumns) -> None:
    """Give the dense layers weights with reordered columns; layers that share one still do."""
    for id in columns.values:
        graph.mark(id, Mark.REORDERED)
    reordered: dict[TensorId, TensorId] = {}
    for id in columns.layers:
        layer = graph.op(id)
        assert isinstance(layer, Dense)
        if layer.weight not in reordered:
            weight = np.ascontiguousarray(graph.data(layer.weight)[:, columns.order])
            origin = graph.tensor(layer.weight).marked(Mark.REORDERED)
            reordered[layer.weight] = graph.add_constant(f"{layer.weight}.nhwc", weight, origin)
        graph.set_inputs(layer, (layer.x, reordered[layer.weight], layer.bias))
