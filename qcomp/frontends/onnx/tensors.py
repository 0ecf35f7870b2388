"""TensorProto to numpy, checked: sizes agree, external data stays in the model's folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from onnx import TensorProto

from qcomp.errors import ModelError
from qcomp.frontends.limits import MAX_ELEMENTS, MAX_RANK
from qcomp.ir.tensor import Array

_RAW_DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "<f4",
    TensorProto.DOUBLE: "<f8",
    TensorProto.FLOAT16: "<f2",
    TensorProto.INT8: "<i1",
    TensorProto.INT16: "<i2",
    TensorProto.INT32: "<i4",
    TensorProto.INT64: "<i8",
    TensorProto.UINT8: "<u1",
    TensorProto.UINT16: "<u2",
    TensorProto.UINT32: "<u4",
    TensorProto.UINT64: "<u8",
    TensorProto.BOOL: "?",
}
PACKED: Mapping[int, tuple[int, int]] = {
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
}
"""The limits of integers of which a byte holds several, the first in its lowest bits."""
NUMBERS = frozenset({*_RAW_DTYPES, TensorProto.BFLOAT16})
_TYPED_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}


def element_type_name(data_type: int) -> str:
    """The name of an ONNX element type, as in `INT64`."""
    names = TensorProto.DataType.items()
    return next((str(name) for name, value in names if value == data_type), f"type {data_type}")


def decode_tensor(proto: TensorProto, folder: Path | None, label: str) -> Array:
    """The array of a tensor; ModelError says what is wrong with it."""
    dims = tuple(proto.dims)
    if len(dims) > MAX_RANK:
        raise ModelError(f"{label}: rank {len(dims)}; accepted: up to {MAX_RANK}")
    if min(dims, default=0) < 0 or math.prod(dims) > MAX_ELEMENTS:
        raise ModelError(f"{label}: impossible shape {list(dims)}")
    if proto.HasField("segment"):
        raise ModelError(f"{label}: segmented tensors are not part of ONNX models")
    if proto.data_type == TensorProto.BFLOAT16:
        widened = _decode_as(proto, dims, "<u2", folder, label).astype(np.uint32) << 16
        return widened.view(np.float32)
    if proto.data_type in PACKED:
        return _unpacked(proto, dims, folder, label)
    dtype = _RAW_DTYPES.get(proto.data_type)
    if dtype is None:
        kinds = (*_RAW_DTYPES, TensorProto.BFLOAT16, *PACKED)
        accepted = ", ".join(map(element_type_name, kinds))
        raise ModelError(
            f"{label}: element type {element_type_name(proto.data_type)}; accepted: {accepted}"
        )
    return _decode_as(proto, dims, dtype, folder, label)


def _unpacked(proto: TensorProto, dims: tuple[int, ...], folder: Path | None, label: str) -> Array:
    """Integers of 4 or 2 bits, in bytes."""
    low, high = PACKED[proto.data_type]
    bits, count = (high - low).bit_length(), math.prod(dims)
    packed = _decode_as(proto, (-(-count * bits // 8),), "<u1", folder, label)
    apart = packed[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)
    codes = (apart & ((1 << bits) - 1)).reshape(-1)[:count].astype(np.int8)
    integers = np.where(codes > high, codes - (1 << bits), codes)
    return integers.astype(np.int8 if low < 0 else np.uint8).reshape(dims)


def _decode_as(
    proto: TensorProto, dims: tuple[int, ...], dtype: str, folder: Path | None, label: str
) -> Array:
    if proto.data_location == TensorProto.EXTERNAL:
        data = _external(proto, math.prod(dims) * np.dtype(dtype).itemsize, folder, label)
        return np.frombuffer(data, dtype).reshape(dims)
    if proto.HasField("raw_data"):
        expected = math.prod(dims) * np.dtype(dtype).itemsize
        if len(proto.raw_data) != expected:
            raise ModelError(
                f"{label}: {len(proto.raw_data)} bytes of data for shape {list(dims)}, "
                f"which takes {expected}"
            )
        return np.frombuffer(proto.raw_data, dtype).reshape(dims)
    values = getattr(proto, _TYPED_FIELDS.get(proto.data_type, "int32_data"))
    if len(values) != math.prod(dims):
        raise ModelError(f"{label}: {len(values)} values for shape {list(dims)}")
    try:
        if proto.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            return np.asarray(values, np.uint16).view(dtype).reshape(dims)
        return np.asarray(values, dtype).reshape(dims)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{label}: {error}") from error


def _external(proto: TensorProto, size: int, folder: Path | None, label: str) -> bytes:
    """`size` bytes of the file that `external_data` names."""
    entries = {e.key: e.value for e in proto.external_data}
    path = _inside(folder, entries.get("location", ""), label)
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(size)))
    except ValueError as error:
        raise ModelError(f"{label}: external data offset or length: {error}") from error
    if length != size:
        raise ModelError(f"{label}: {length} bytes of external data for a tensor of {size} bytes")
    try:
        available = path.stat().st_size
        if offset < 0 or offset + length > available:
            raise ModelError(
                f"{label}: external data [{offset}, {offset + length}) lies outside {path}, "
                f"which has {available} bytes"
            )
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise ModelError(f"{label}: external data {path}: {error.strerror or error}") from error
    if len(data) != length:
        raise ModelError(f"{label}: external data {path} ended early")
    return data


def _inside(folder: Path | None, location: str, label: str) -> Path:
    """The external file; never one outside the model's folder, by `..`, root or symbolic link."""
    if folder is None:
        raise ModelError(f"{label} has external data: give the model as a path, not as bytes")
    absolute = PurePosixPath(location).is_absolute() or bool(PureWindowsPath(location).anchor)
    parts = PureWindowsPath(location).parts  # splits at both kinds of slashes
    if not location or "\0" in location or absolute or ".." in parts:
        raise ModelError(
            f"{label}: external data at {location!r}; accepted: a path inside the model's folder"
        )
    root = folder.resolve()
    path = (root / location).resolve()
    if not path.is_relative_to(root):
        raise ModelError(f"{label}: external data {location!r} leads outside the model's folder")
    if not path.is_file():
        raise ModelError(f"{label}: external data file {location!r} is missing")
    return path
