"""Numbers of convolutions and dense layers: factors per channel, and new data for constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.ir.tensor import Mark, NormalStatistics, TensorId, constant

F64 = NDArray[np.float64]


def weight_and_bias(graph: Graph, op: Weighted) -> tuple[F64, F64]:
    return graph.data(op.weight).astype(np.float64), graph.data(op.bias).astype(np.float64)


def per_output(values: F64, weight: F64) -> F64:
    """One value per output channel, shaped to meet the weight [O, ..., I]."""
    return values.reshape(-1, *(1,) * (weight.ndim - 1))


def per_input(values: F64, weight: F64, groups: int) -> F64:
    """One value per input channel, shaped [O, 1, ..., I] to meet the weight [O, ..., I].

    Output channel o of group g reads the input channels g * I to (g + 1) * I - 1.
    """
    outputs, depth = weight.shape[0], weight.shape[-1]
    rows = np.repeat(values.reshape(groups, depth), outputs // groups, axis=0)
    return rows.reshape(outputs, *(1,) * (weight.ndim - 2), depth)


def output_ranges(weight: F64) -> F64:
    """The largest |weight| of each output channel, [O]."""
    ranges: F64 = np.abs(weight).reshape(weight.shape[0], -1).max(axis=1)
    return ranges


def input_ranges(weight: F64, groups: int) -> F64:
    """The largest |weight| of each input channel, [groups * I]."""
    by_group = np.abs(weight).reshape(groups, -1, weight.shape[-1])
    ranges: F64 = by_group.max(axis=1).reshape(-1)
    return ranges


def with_numbers(
    graph: Graph, op: Weighted, weight: F64, bias: F64, mark: Mark
) -> tuple[TensorId, ...]:
    """Operands of `op` with other numbers; a constant that another op reads is left alone."""
    return (
        op.x,
        _own_constant(graph, op, op.weight, weight, mark),
        _own_constant(graph, op, op.bias, bias, mark),
    )


def record_scale(graph: Graph, id: TensorId, factors: F64) -> None:
    """Scale the statistics and the origin of a value whose channels were multiplied by factors."""
    tensor = graph.tensor(id)
    k = np.tile(factors, tensor.type.shape[-1] // factors.size)
    if (normal := tensor.normal) is not None:
        scaled = NormalStatistics(mean=k * normal.mean, std=k * normal.std)
        tensor = replace(tensor, normal=scaled)
    if tensor.origin is not None:
        tensor = replace(tensor, origin=tensor.origin.scaled(k))
    graph.update_tensor(tensor)


def _own_constant(graph: Graph, reader: Weighted, id: TensorId, data: F64, mark: Mark) -> TensorId:
    rounded, tensor = data.astype(np.float32), graph.tensor(id)
    same = np.array_equal(rounded, graph.data(id))
    origin = tensor.origin if same else tensor.marked(mark)
    if graph.is_output(id) or [op.id for op in graph.consumers(id)] != [reader.id]:
        return graph.add_constant(id, rounded, origin)
    graph.update_tensor(constant(id, rounded, origin))
    return id


def fits_float32(*arrays: F64) -> bool:
    """Whether all values stay finite when they are rounded to float32."""
    with np.errstate(over="ignore"):
        return all(bool(np.isfinite(a.astype(np.float32)).all()) for a in arrays)
