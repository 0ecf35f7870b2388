"""Scattering to, and gathering from, places that are known at compile time.

A box of places, as an assignment to a slice gives, is a Concat of what lies around it; any other
places are a Gather from the rows of both operands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.rules.reduction import normalized
from qcomp.ir.ops import Concat, Gather, Reshape, Slice
from qcomp.ir.tensor import TensorId

Places = NDArray[np.int64]
Shape = tuple[int, ...]


def scatter_nd(node: Node) -> None:
    shape, coordinates = node.shape(0), _coordinates(node, node.shape(0), batch=0)
    _require_plain(node, (*coordinates.shape[:-1], *shape[coordinates.shape[-1] :]))
    box = _box(coordinates)
    if box is None:
        depth = coordinates.shape[-1]
        places = _flat(coordinates.reshape(-1, depth), shape[:depth])
        _overwrite_rows(node, places, math.prod(shape[:depth]))
    else:
        _overwrite_box(node, *box)


def scatter_elements(node: Node) -> None:
    coordinates = _along_axis(node)
    _require_plain(node, coordinates.shape[:-1])
    shape = node.shape(0)
    places = _flat(coordinates.reshape(-1, len(shape)), shape)
    _overwrite_rows(node, places, math.prod(shape))


def gather_nd(node: Node) -> None:
    shape, batch = node.shape(0), node.integer("batch_dims", 0)
    node.require(0 <= batch < len(shape), f"batch_dims={batch}")
    coordinates = _coordinates(node, shape, batch)
    depth = batch + coordinates.shape[-1]
    batches = np.moveaxis(np.indices(shape[:batch], np.int64), 0, -1)
    between = (1,) * (coordinates.ndim - 1 - batch)
    first = np.broadcast_to(
        batches.reshape(*shape[:batch], *between, batch), (*coordinates.shape[:-1], batch)
    )
    whole = np.concatenate([first, coordinates], axis=-1)
    result = (*coordinates.shape[:-1], *shape[depth:])
    _take_rows(node, _flat(whole.reshape(-1, depth), shape[:depth]), shape[:depth], result)


def gather_elements(node: Node) -> None:
    coordinates, shape = _along_axis(node), node.shape(0)
    places = _flat(coordinates.reshape(-1, len(shape)), shape)
    _take_rows(node, places, shape, coordinates.shape[:-1])


def _coordinates(node: Node, shape: Shape, batch: int) -> Places:
    """[..., depth]: non-negative coordinates on the axes from `batch` on."""
    indices = _indices(node)
    node.require(indices.ndim >= 1, "the indices are a scalar")
    node.require(indices.shape[:batch] == shape[:batch], f"indices of {list(indices.shape)}")
    extents = np.array(shape[batch : batch + indices.shape[-1]], np.int64)
    node.require(extents.size == indices.shape[-1], f"indices of {indices.shape[-1]} axes")
    return _within(node, indices, extents)


def _along_axis(node: Node) -> Places:
    """[..., rank]: the place of each index, which is a coordinate along the one axis."""
    shape, indices = node.shape(0), _indices(node)
    axis = normalized(node, node.integer("axis", 0), len(shape))
    fits = indices.ndim == len(shape) and all(
        i <= s for a, (i, s) in enumerate(zip(indices.shape, shape, strict=True)) if a != axis
    )
    node.require(fits, f"indices of {list(indices.shape)} for {list(shape)}")
    grid = np.moveaxis(np.indices(indices.shape, np.int64), 0, -1).copy()
    grid[..., axis] = _within(node, indices, np.int64(shape[axis]))
    return grid


def _indices(node: Node) -> Places:
    indices = node.constant(1, "the indices")
    node.require(indices.dtype.kind in "iu" and indices.size > 0, "the indices are no integers")
    return indices.astype(np.int64)


def _within(node: Node, indices: Places, extents: Places | np.int64) -> Places:
    inside = (indices >= -extents) & (indices < extents)
    node.require(bool(inside.all()), f"indices leave the shape {list(node.shape(0))}")
    return np.where(indices < 0, indices + extents, indices)


def _flat(coordinates: Places, shape: Shape) -> Places:
    if not shape:
        return np.zeros(len(coordinates), np.int64)
    return np.asarray(np.ravel_multi_index(tuple(coordinates.T), shape), np.int64)


def _require_plain(node: Node, updates: Shape) -> None:
    reduction = node.text("reduction", "none")
    node.require(reduction == "none", f"reduction={reduction}", "none")
    node.require(
        node.shape(2) == updates, f"updates of {list(node.shape(2))}; expected {list(updates)}"
    )


def _box(coordinates: Places) -> tuple[Shape, Shape] | None:
    """Starts and sizes of the box whose places these are in order, or None."""
    flat = coordinates.reshape(-1, coordinates.shape[-1])
    starts, ends = flat.min(axis=0), flat.max(axis=0) + 1
    sizes = tuple(int(n) for n in ends - starts)
    if math.prod(sizes) != len(flat):
        return None
    ordered = np.indices(sizes).reshape(len(sizes), -1).T + starts
    return (tuple(int(n) for n in starts), sizes) if (ordered == flat).all() else None


def _overwrite_box(node: Node, starts: Shape, sizes: Shape) -> None:
    """From the last axis of the box to its first, what lies before and behind it joins."""
    shape = node.shape(0)
    whole = (*sizes, *shape[len(sizes) :])
    y = _reshaped(node, node.x(2), whole, "box")
    for axis in reversed(range(len(sizes))):
        end = starts[axis] + sizes[axis]
        before = _beside(node, starts, sizes, axis, 0, starts[axis])
        behind = _beside(node, starts, sizes, axis, end, shape[axis] - end)
        if before or behind:
            parts = (*before, y, *behind)
            y = node.add(Concat(inputs=parts, output=node.part("grown"), axis=axis))
    node.alias(y)


def _beside(
    node: Node, starts: Shape, sizes: Shape, axis: int, start: int, size: int
) -> list[TensorId]:
    """The data in the box on the axes before `axis`, at [start, start + size) along it."""
    if size == 0:
        return []
    shape = node.shape(0)
    op = Slice(
        inputs=(node.x(0),),
        output=node.part("beside"),
        starts=(*starts[:axis], start, *(0,) * (len(shape) - axis - 1)),
        sizes=(*sizes[:axis], size, *shape[axis + 1 :]),
        steps=(1,) * len(shape),
    )
    return [node.add(op)]


def _overwrite_rows(node: Node, places: Places, rows: int) -> None:
    """Rows of the data, or of the updates; of several at one place the last one stays."""
    shape = node.shape(0)
    width = math.prod(shape) // rows
    parts = (
        _reshaped(node, node.x(0), (rows, width), "rows"),
        _reshaped(node, node.x(2), (len(places), width), "updates"),
    )
    both = node.add(Concat(inputs=parts, output=node.part("both"), axis=0))
    order = np.arange(rows)
    order[places] = rows + np.arange(len(places))
    _gather(node, both, order, shape)


def _take_rows(node: Node, places: Places, axes: Shape, shape: Shape) -> None:
    rows = math.prod(axes)
    width = math.prod(node.shape(0)) // rows
    _gather(node, _reshaped(node, node.x(0), (rows, width), "rows"), places, shape)


def _gather(node: Node, rows: TensorId, places: Sequence[int] | Places, shape: Shape) -> None:
    indices = node.new_constant("places", np.asarray(places, np.int64))
    y = node.add(Gather(inputs=(rows, indices), output=node.part("taken"), axis=0))
    node.add(Reshape(inputs=(y,), output=node.out(), shape=shape))


def _reshaped(node: Node, x: TensorId, shape: Shape, role: str) -> TensorId:
    if node.graph.type(x).shape == shape:
        return x
    return node.add(Reshape(inputs=(x,), output=node.part(role), shape=shape))


RULES: Mapping[str, Rule] = {
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
}
