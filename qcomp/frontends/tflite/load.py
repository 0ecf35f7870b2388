"""Read a TFLite file: its first graph with indices checked, before anything looks at a node."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import ModelError
from qcomp.files import open_regular
from qcomp.formats.flatbuffer import BrokenBuffer, Reader, Record
from qcomp.formats.tflite import (
    CUSTOM,
    ELEMENT_TYPES,
    IDENTIFIER,
    OPERATORS,
    OPTIONS,
    SCHEMA,
    VERSION,
)
from qcomp.frontends.limits import MAX_ELEMENTS, MAX_RANK

_MAX_BYTES = 1 << 32
ABSENT = -1  # an operand that an operator does without


@dataclass(frozen=True, eq=False)
class Quantization:
    """scale f32 and zero_point i64, [1] or [C] along `axis`."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int


@dataclass(frozen=True, eq=False)
class FileTensor:
    """A tensor of the file; `data` are the bytes of a constant, `dynamic` the axes without size."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dynamic: tuple[int, ...]
    data: bytes | None
    quantization: Quantization | None
    sparsity: Record | None
    is_variable: bool


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: tensors by index; `options` of the table `table`, None where it has none."""

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    table: str | None
    options: Record | None

    def __str__(self) -> str:
        return f"operator {self.index} ({self.name})"


@dataclass(frozen=True, eq=False)
class FileModel:
    """The first graph of a file, and a name for messages."""

    label: str
    name: str
    tensors: Sequence[FileTensor]
    operators: Sequence[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    more_graphs: int


def load_model(model: str | os.PathLike[str] | bytes) -> FileModel:
    """ModelError for a file that is broken, in whatever way."""
    label = "the model" if isinstance(model, bytes) else str(model)
    data = model if isinstance(model, bytes) else _read(Path(model))
    if data[4:8] != IDENTIFIER:
        raise ModelError(f"{label} is not a TFLite model: it lacks the mark TFL3")
    try:
        root = Reader(data, SCHEMA).root("Model")
        return _model(root, data, label)
    except BrokenBuffer as error:
        raise ModelError(f"{label} is a broken TFLite model: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _MAX_BYTES:
                raise ModelError(f"{path} has {size} bytes; accepted: up to {_MAX_BYTES}")
            return file.read()
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error


def _model(root: Record, data: bytes, label: str) -> FileModel:
    if root["version"] != VERSION:
        raise BrokenBuffer(f"schema version {root['version']}; accepted: {VERSION}")
    if not root["subgraphs"]:
        raise BrokenBuffer("it has no graph")
    graph = root["subgraphs"][0]
    buffers = [_bytes(buffer, data) for buffer in root["buffers"]]
    tensors = [_tensor(t, i, buffers) for i, t in enumerate(graph["tensors"])]
    codes = [_operator_name(code) for code in root["operator_codes"]]
    operators = [_operator(o, i, codes) for i, o in enumerate(graph["operators"])]
    model = FileModel(
        label,
        graph["name"] or Path(label).stem,
        tensors,
        operators,
        _indices(graph["inputs"]),
        _indices(graph["outputs"]),
        len(root["subgraphs"]) - 1,
    )
    _check_indices(model)
    return model


def _bytes(buffer: Record, data: bytes) -> bytes:
    """Inside of the FlatBuffer, or behind it, where files of more than 2 GB have them."""
    start, size = buffer["offset"], buffer["size"]
    if start <= 1:  # 1 stands for a place that was never filled in
        return bytes(buffer["data"])
    if not start + size <= len(data):
        raise BrokenBuffer(f"{size} bytes of a buffer at {start} of a file of {len(data)}")
    return data[start : start + size]


def _tensor(record: Record, index: int, buffers: Sequence[bytes]) -> FileTensor:
    name = record["name"] or f"tensor{index}"
    if not 0 <= record["type"] < len(ELEMENT_TYPES):
        raise BrokenBuffer(f"tensor {name!r} has the unknown element type {record['type']}")
    if record["buffer"] >= len(buffers):
        raise BrokenBuffer(f"tensor {name!r} has buffer {record['buffer']} of {len(buffers)}")
    if record["external_buffer"]:
        raise BrokenBuffer(f"tensor {name!r} lies in another file; accepted: tensors in this one")
    shape = tuple(int(e) for e in record["shape"])
    if len(shape) > MAX_RANK:
        raise BrokenBuffer(f"tensor {name!r} has rank {len(shape)}; accepted: up to {MAX_RANK}")
    if min(shape, default=1) < 0 or np.prod(shape, dtype=object) > MAX_ELEMENTS:
        raise BrokenBuffer(f"tensor {name!r} has the impossible shape {list(shape)}")
    signature = record["shape_signature"]
    dynamic = np.flatnonzero(signature == -1) if len(signature) == len(shape) else ()
    return FileTensor(
        name=name,
        kind=ELEMENT_TYPES[record["type"]],
        shape=shape,
        dynamic=tuple(int(axis) for axis in dynamic),
        data=buffers[record["buffer"]] or None,
        quantization=_quantization(record["quantization"], shape, name),
        sparsity=record["sparsity"],
        is_variable=record["is_variable"],
    )


def _quantization(record: Record | None, shape: tuple[int, ...], name: str) -> Quantization | None:
    """None for floats, which may have an empty record."""
    if record is None or record["scale"].size == 0:
        return None
    if record["details_type"]:
        raise BrokenBuffer(f"tensor {name!r} has quantization of its own kind; accepted: affine")
    scale, zero, axis = record["scale"], record["zero_point"], record["quantized_dimension"]
    if zero.size == 0:
        zero = np.zeros(scale.size, np.int64)
    fits = scale.size == 1 or (0 <= axis < len(shape) and scale.size == shape[axis])
    if not fits or zero.size not in (1, scale.size):
        raise BrokenBuffer(
            f"tensor {name!r} has {scale.size} scales and {zero.size} zero points along axis "
            f"{axis} of {list(shape)}"
        )
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise BrokenBuffer(f"tensor {name!r} has a scale that is not positive and finite")
    return Quantization(scale, np.broadcast_to(zero, scale.shape), axis if scale.size > 1 else 0)


def _operator_name(code: Record) -> tuple[str, int]:
    """The larger of two fields counts: the older one holds 127 codes."""
    number = max(code["deprecated_builtin_code"], code["builtin_code"])
    if not 0 <= number < len(OPERATORS):
        return f"builtin {number}", code["version"]
    if number == CUSTOM:
        return f"custom {code['custom_code']!r}", code["version"]
    return OPERATORS[number], code["version"]


def _operator(record: Record, index: int, codes: Sequence[tuple[str, int]]) -> Operator:
    if record["opcode_index"] >= len(codes):
        raise BrokenBuffer(f"operator {index} has code {record['opcode_index']} of {len(codes)}")
    name, version = codes[record["opcode_index"]]
    return Operator(
        index=index,
        name=name,
        version=version,
        inputs=_indices(record["inputs"]),
        outputs=_indices(record["outputs"]),
        table=OPTIONS.get(record["builtin_options_type"]),
        options=record["builtin_options"],
    )


def _check_indices(model: FileModel) -> None:
    """Every index is that of a tensor, and what an operator reads was made before."""
    count = len(model.tensors)
    made = {i for i, t in enumerate(model.tensors) if t.data is not None or t.is_variable}
    for i in model.inputs:
        if not 0 <= i < count:
            raise BrokenBuffer(f"input {i} of {count} tensors")
    made.update(model.inputs)
    for op in model.operators:
        for i in op.inputs:
            if i != ABSENT and i not in made:
                raise BrokenBuffer(f"{op} reads tensor {i}, which nothing before it makes")
        for i in op.outputs:
            if not 0 <= i < count or i in made:
                raise BrokenBuffer(f"{op} makes tensor {i}, which is made before, or none")
        made.update(op.outputs)
    for i in model.outputs:
        if i not in made:
            raise BrokenBuffer(f"output {i} is a tensor that nothing makes")


def _indices(array: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(i) for i in array)
