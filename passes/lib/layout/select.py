"""Selections along one axis: Gather and Slice merged with each other and with reshapes.

    Gather(Gather(x, i), j)         = Gather(x, i[j])    along the same axis
    Reshape(Gather(Reshape(x)))     = Gather(x)          where the first reshape splits an axis, the
                                                         gather picks from a part, the last merges
    Gather(x, [a, a+s, a+2s, ...])  = Slice(x)           in steps of s
    Slice(Slice(x))                 = Slice(x)           starts and steps compose per axis

The second is how ShuffleNet's channel shuffle and split end up: every other channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Gather, Op, Reshape, Slice
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.layout.permutation import Shape

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Selection:
    """The elements `indices` along `axis` of x."""

    x: TensorId
    axis: int
    indices: Indices


def selection(graph: Graph, op: Op | None) -> Selection | None:
    """A Gather, or a Slice that cuts one axis, as a selection."""
    if isinstance(op, Gather):
        return Selection(op.x, op.axis, graph.data(op.indices))
    if isinstance(op, Slice):
        shape = graph.type(op.x).shape
        whole = ((0, extent, 1) for extent in shape)
        cuts = zip(op.starts, op.sizes, op.steps, strict=True)
        axes = [i for i, (cut, all_) in enumerate(zip(cuts, whole, strict=True)) if cut != all_]
        if len(axes) == 1:
            (i,) = axes
            stop = op.starts[i] + op.sizes[i] * op.steps[i]
            return Selection(op.x, i, np.arange(op.starts[i], stop, op.steps[i], dtype=np.int64))
    return None


def as_op(graph: Graph, chosen: Selection, output: TensorId) -> Op | TensorId:
    """The cheapest op for a selection: none, a Slice, else a Gather."""
    shape = graph.type(chosen.x).shape
    indices = chosen.indices
    if np.array_equal(indices, np.arange(shape[chosen.axis])):
        return chosen.x
    steps = np.unique(np.diff(indices))
    if len(steps) == 0 or (len(steps) == 1 and steps[0] > 0):
        axis = chosen.axis
        return Slice(
            inputs=(chosen.x,),
            output=output,
            starts=tuple(int(indices[0]) if i == axis else 0 for i in range(len(shape))),
            sizes=(*shape[:axis], len(indices), *shape[axis + 1 :]),
            steps=tuple(
                int(steps[0]) if i == axis and len(steps) else 1 for i in range(len(shape))
            ),
        )
    constant = graph.add_constant(f"{output}.indices", indices)
    return Gather(inputs=(chosen.x, constant), output=output, axis=chosen.axis)


def gather_to_slice(graph: Graph, op: Op) -> Op | TensorId | None:
    if not isinstance(op, Gather):
        return None
    chosen = Selection(op.x, op.axis, graph.data(op.indices))
    steps = np.unique(np.diff(chosen.indices))
    if len(steps) > 1 or (len(steps) == 1 and steps[0] <= 0):
        return None
    return as_op(graph, chosen, op.output)


def merge_selections(graph: Graph, op: Op) -> Op | TensorId | None:
    """Only where every reader of the inner one is a selection too: then no work is repeated."""
    outer = selection(graph, op)
    inner = selection(graph, graph.producer(outer.x)) if outer is not None else None
    if outer is None or inner is None or inner.axis != outer.axis:
        return None
    readers = [selection(graph, reader) for reader in graph.consumers(outer.x)]
    if graph.is_output(outer.x) or any(r is None or r.axis != inner.axis for r in readers):
        return None
    merged = Selection(inner.x, inner.axis, inner.indices[outer.indices])
    return as_op(graph, merged, op.output)


def merge_selection_with_reshapes(graph: Graph, op: Op) -> Op | TensorId | None:
    if not isinstance(op, Reshape):
        return None
    inner = selection(graph, graph.producer(op.x))
    split = graph.producer(inner.x) if inner is not None else None
    if inner is None or not isinstance(split, Reshape):
        return None
    merged = _through_split(graph.type(split.x).shape, split.shape, inner, op.shape)
    if merged is None:
        return None
    axis, indices = merged
    return as_op(graph, Selection(split.x, axis, indices), op.output)


def _through_split(
    source: Shape, split: Shape, inner: Selection, target: Shape
) -> tuple[int, Indices] | None:
    """(axis, indices) of Reshape(inner(Reshape(x, split)), target) as a selection of x."""
    axis = next((i for i, (a, b) in enumerate(zip(source, target, strict=False)) if a != b), -1)
    if axis < 0 or len(source) != len(target) or source[axis + 1 :] != target[axis + 1 :]:
        return None
    before, behind = math.prod(split[: inner.axis]), math.prod(split[inner.axis + 1 :])
    outer, rest = math.prod(source[:axis]), math.prod(source[axis + 1 :])
    # The picked part must lie inside the one axis that changes its extent.
    if before % outer or behind % rest:
        return None
    parts = (before // outer, split[inner.axis], behind // rest)
    grid = np.arange(source[axis], dtype=np.int64).reshape(parts)
    return axis, np.ascontiguousarray(grid[:, inner.indices].reshape(-1))


def merge_slices(graph: Graph, op: Op) -> Op | None:
    """Only where every reader of the inner one is a slice too: then no work is repeated."""
    inner = graph.producer(op.inputs[0])
    if not isinstance(op, Slice) or not isinstance(inner, Slice) or graph.is_output(inner.output):
        return None
    if not all(isinstance(reader, Slice) for reader in graph.consumers(inner.output)):
        return None
    within = zip(inner.starts, inner.steps, op.starts, strict=True)
    return replace(
        op,
        inputs=inner.inputs,
        starts=tuple(start + step * position for start, step, position in within),
        steps=tuple(a * b for a, b in zip(inner.steps, op.steps, strict=True)),
    )


SELECTION_REWRITES = (
    gather_to_slice,
    merge_slices,
    merge_selections,
    merge_selection_with_reshapes,
)
