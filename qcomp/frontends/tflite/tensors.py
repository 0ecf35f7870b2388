"""The constants of a TFLite file as arrays: of any width, packed, or sparse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from qcomp.errors import ModelError
from qcomp.formats.flatbuffer import Record
from qcomp.frontends.tflite.load import FileTensor
from qcomp.ir.tensor import Array

WHOLE: Mapping[str, str] = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "BOOL": "?",
}
PACKED: Mapping[str, int] = {"INT4": 4, "INT2": 2}
"""Bits of signed integers that share bytes, the first in the lowest bits."""
_BRIEF = "BFLOAT16"
KINDS = (*WHOLE, *PACKED, _BRIEF)
_SPARSE_CSR = 1
_MOST_SPARSE_AXES = 8


def decode(tensor: FileTensor) -> Array:
    """The elements of a constant, packed ones as i8; ModelError says what is wrong with it."""
    assert tensor.data is not None
    values = _elements(tensor, tensor.data)
    if tensor.sparsity is not None:
        return _dense(tensor, values)
    size = math.prod(tensor.shape)
    if values.size != size:
        raise _wrong(tensor, f"{len(tensor.data)} bytes for {size} elements")
    return values.reshape(tensor.shape)


def _elements(tensor: FileTensor, data: bytes) -> Array:
    if tensor.kind in WHOLE:
        dtype = np.dtype(WHOLE[tensor.kind])
        if len(data) % dtype.itemsize:
            raise _wrong(tensor, f"{len(data)} bytes of elements of {dtype.itemsize}")
        return np.frombuffer(data, dtype)
    if tensor.kind == _BRIEF:
        if len(data) % 2:
            raise _wrong(tensor, f"{len(data)} bytes of elements of 2")
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if tensor.kind in PACKED:
        return _unpacked(data, PACKED[tensor.kind], math.prod(tensor.shape))
    raise _wrong(tensor, f"element type {tensor.kind}; accepted: {', '.join(KINDS)}")


def _unpacked(data: bytes, bits: int, count: int) -> Array:
    """Signed integers of few bits; as many as fit where there are fewer than `count`."""
    given = np.frombuffer(data, np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (given[:, np.newaxis] >> shifts) & np.uint8((1 << bits) - 1)
    left = np.uint8(8 - bits)
    signed = (parts << left).view(np.int8) >> np.int8(left)
    short = len(given) != -(-count * bits // 8)
    return signed.reshape(-1) if short else signed.reshape(-1)[:count]


def _dense(tensor: FileTensor, values: Array) -> Array:
    """A sparse tensor whole: TACO's format, dimension by dimension, maybe of blocks.

    Kjolstad, Kamil, Chou, Lugato, Amarasinghe, "The tensor algebra compiler", OOPSLA 2017. Axes
    beyond the tensor's are those inside of blocks, of the axes that `block_map` names.
    """
    sparsity, rank = tensor.sparsity, len(tensor.shape)
    assert sparsity is not None
    order = [int(a) for a in sparsity["traversal_order"]]
    blocks = [int(a) for a in sparsity["block_map"]]
    axes: Sequence[Record] = sparsity["dim_metadata"]
    if (
        sorted(order) != list(range(rank + len(blocks)))
        or len(axes) != len(order)
        or len(order) > _MOST_SPARSE_AXES
        or len(set(blocks)) != len(blocks)
        or not all(0 <= b < rank for b in blocks)
    ):
        raise _wrong(tensor, "a sparsity whose axes are not those of its shape")
    extents = list(tensor.shape)
    for i, b in enumerate(blocks):
        extent = int(axes[order.index(rank + i)]["dense_size"])
        if extent < 1 or extents[b] % extent:
            raise _wrong(tensor, f"blocks of {extent} along an axis of {extents[b]}")
        extents[b] //= extent
        extents.append(extent)
    coordinates = np.zeros((1, 0), np.int64)
    positions = np.zeros(1, np.int64)
    for level, axis in enumerate(order):
        coordinates, positions = _deeper(tensor, axes[level], extents[axis], coordinates, positions)
        if len(positions) > values.size:
            raise _wrong(tensor, f"{values.size} elements where its sparsity has more")
    if len(positions) != values.size or (positions != np.arange(values.size)).any():
        raise _wrong(tensor, f"{values.size} elements, unlike its sparsity")
    place = np.zeros((len(positions), rank), np.int64)
    for level, axis in enumerate(order):
        if axis < rank:
            inside = extents[rank + blocks.index(axis)] if axis in blocks else 1
            place[:, axis] += coordinates[:, level] * inside
        else:
            place[:, blocks[axis - rank]] += coordinates[:, level]
    result = np.zeros(tensor.shape, values.dtype)
    result[tuple(place.T)] = values
    return result


def _deeper(
    tensor: FileTensor, axis: Record, extent: int, coordinates: Array, positions: Array
) -> tuple[Array, Array]:
    """The coordinates [N, level + 1] and the places of values behind one more axis."""
    if axis["format"] != _SPARSE_CSR:
        if axis["dense_size"] != extent:
            raise _wrong(tensor, f"a sparsity of {axis['dense_size']} along an axis of {extent}")
        if len(positions) * extent > math.prod(tensor.shape):
            raise _wrong(tensor, "a sparsity with more elements than its shape")
        own = np.tile(np.arange(extent), len(positions))
        rows = np.repeat(np.arange(len(positions)), extent)
        return np.column_stack([coordinates[rows], own]), positions[rows] * extent + own
    segments, indices = (_values(axis[f]) for f in ("array_segments", "array_indices"))
    ends_right = len(segments) == len(positions) + 1 and int(segments[0]) == 0
    if not ends_right or int(segments[-1]) != len(indices) or (np.diff(segments) < 0).any():
        raise _wrong(tensor, "sparse segments that do not fit its rows")
    if len(indices) and not 0 <= indices.min() <= indices.max() < extent:
        raise _wrong(tensor, f"sparse indices outside of an axis of {extent}")
    rows = np.repeat(np.arange(len(positions)), np.diff(segments))
    return np.column_stack([coordinates[rows], indices]), np.arange(len(indices))


def _values(record: Record | None) -> Array:
    return np.zeros(1, np.int64) if record is None else record["values"].astype(np.int64)


def _wrong(tensor: FileTensor, what: str) -> ModelError:
    return ModelError(f"tensor {tensor.name!r} of shape {list(tensor.shape)} has {what}")
