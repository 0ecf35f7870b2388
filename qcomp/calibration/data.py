"""Calibration data from wherever the user keeps it, one dict of arrays per run of the graph.

Accepted sources:

* an iterable, also one that can be read only once, of arrays, dicts (by input name) or tuples (in
  the order of the inputs);
* one array, or a dict of arrays, whose first axis counts samples;
* the path of a .npy file; of an .npz file with one array per input; or of a directory of such
  files, read in the order of their names.

An array holds a whole number of the graph's batches along its first axis, or one sample without
that axis. Its numbers are floats or integers, all finite; they are converted to f32 and not scaled.
Data streams: at any time one run is in memory, and what the source itself holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.npy import open_npy, open_npz
from qcomp.errors import CalibrationError
from qcomp.ir.tensor import Array, DType, TensorType

Inputs = Mapping[str, TensorType]
Source = str | os.PathLike[str] | Iterable[Any]

_SUFFIXES = (".npy", ".npz")
_ACCEPTED = (
    "expected an iterable of arrays, dicts or tuples, one array, or the path of a .npy file, of an "
    ".npz file or of a directory of them"
)


class Stored(Protocol):
    """An array that may still be in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def parts(self, count: int) -> Iterator[NDArray[Any]]:
        """`count` equal parts along the first axis; the whole array if count is 1."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """An array as the caller gave it."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def parts(self, count: int) -> Iterator[NDArray[Any]]:
        yield from np.split(self.array, count) if count > 1 else [self.array]


def open_calibration(source: Source, inputs: Inputs) -> Iterator[dict[str, Array]]:
    """The runs that `source` holds for a graph with these inputs, or CalibrationError."""
    empty = True
    for run in _runs(source, inputs):
        empty = False
        yield run
    if empty:
        raise CalibrationError(f"calibration data is empty; {_ACCEPTED} with at least one sample")


def _runs(source: Source, inputs: Inputs) -> Iterator[dict[str, Array]]:
    if isinstance(source, str | os.PathLike):
        yield from _from_path(Path(source), inputs)
    elif isinstance(source, Mapping) or _is_array(source):
        yield from _split("calibration data", _by_name("calibration data", source, inputs), inputs)
    elif isinstance(source, Iterable):
        for i, item in enumerate(source):
            where = f"calibration item {i}"
            yield from _split(where, _by_name(where, item, inputs), inputs)
    else:
        raise CalibrationError(f"calibration data is a {type(source).__name__}; {_ACCEPTED}")


def expected_runs(source: Source, inputs: Inputs) -> int | None:
    """How many runs there will be if one item makes one run; None where the source does not say."""
    if isinstance(source, str | os.PathLike):
        files = _files(Path(source))
        return None if files is None else len(files)
    if _is_array(source):
        return _run_count(np.asarray(source).shape, next(iter(inputs.values()))) or None
    return len(source) if isinstance(source, Sequence) else None


# ------------------------------------------------------------------------- files


def _files(path: Path) -> list[Path] | None:
    """The data files of a directory by name; None if the path is not a directory."""
    try:
        if not path.is_dir():
            return None
        return sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    except OSError as error:
        raise CalibrationError(f"{path}: can't be read: {error}") from error


def _from_path(path: Path, inputs: Inputs) -> Iterator[dict[str, Array]]:
    files = _files(path)
    if files is not None:
        if not files:
            raise CalibrationError(f"{path}: no .npy or .npz file in it")
        for file in files:
            yield from _from_file(file, inputs)
    elif path.exists():
        yield from _from_file(path, inputs)
    else:
        raise CalibrationError(f"{path}: does not exist; {_ACCEPTED}")


def _from_file(path: Path, inputs: Inputs) -> Iterator[dict[str, Array]]:
    if path.suffix == ".npz":
        with open_npz(path, list(inputs)) as arrays:
            yield from _split(str(path), arrays, inputs)
    elif path.suffix != ".npy":
        raise CalibrationError(f"{path}: unknown kind of file; {_ACCEPTED}")
    elif len(inputs) > 1:
        raise CalibrationError(
            f"{path}: one array for {len(inputs)} inputs; expected an .npz file with "
            f"{_names(inputs)}"
        )
    else:
        with open_npy(path) as array:
            yield from _split(str(path), {next(iter(inputs)): array}, inputs)


# ------------------------------------------------------------------------- items


def _by_name(where: str, item: object, inputs: Inputs) -> dict[str, Stored]:
    """The arrays of one item by input name, whether it is an array, a dict or a tuple."""
    if isinstance(item, Mapping):
        named = dict(item)
    elif isinstance(item, tuple | list):
        if len(item) != len(inputs):
            raise CalibrationError(
                f"{where}: {len(item)} arrays for {len(inputs)} inputs; expected {_names(inputs)}, "
                "without labels"
            )
        named = dict(zip(inputs, item, strict=True))
    elif len(inputs) == 1:
        named = {next(iter(inputs)): item}
    else:
        raise CalibrationError(
            f"{where}: one {type(item).__name__} for {len(inputs)} inputs; expected a dict or a "
            f"tuple with {_names(inputs)}"
        )
    if missing := [name for name in inputs if name not in named]:
        raise CalibrationError(f"{where}: no array for input {', '.join(missing)}")
    if unknown := [str(name) for name in named if name not in inputs]:
        raise CalibrationError(
            f"{where}: no input is named {', '.join(unknown)}; expected {_names(inputs)}"
        )
    return {name: InMemory(_array(where, name, named[name])) for name in inputs}


def _names(inputs: Inputs) -> str:
    return ", ".join(f"{name}: {type}" for name, type in inputs.items())


def _is_array(value: object) -> bool:
    return hasattr(value, "__array__")


def _array(where: str, name: str, value: object) -> NDArray[Any]:
    if not _is_array(value):
        raise CalibrationError(
            f"{where}, input {name}: expected a numpy array, got {type(value).__name__}"
        )
    return np.asarray(value)


# -------------------------------------------------------------------------- runs


def _split(where: str, arrays: Mapping[str, Stored], inputs: Inputs) -> Iterator[dict[str, Array]]:
    """The runs that one item or file holds."""
    counts = {
        name: _checked_count(f"{where}, input {name}", arrays[name], type)
        for name, type in inputs.items()
    }
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise CalibrationError(f"{where}: inputs differ in their number of batches: {listed}")
    parts = [arrays[name].parts(count) for name, count in counts.items()]
    for i, run in enumerate(zip(*parts, strict=True)):
        yield {
            name: _converted(f"{where}, input {name}, batch {i}", part, inputs[name])
            for name, part in zip(inputs, run, strict=True)
        }


def _run_count(shape: tuple[int, ...], type: TensorType) -> int:
    """How many runs an array of this shape holds; 0 if it does not fit."""
    if shape == type.shape:
        return 1
    if not type.shape or type.shape[0] == 0:
        return 0
    batch, *sample = type.shape
    if batch == 1 and shape == tuple(sample):
        return 1
    if shape[1:] == tuple(sample) and len(shape) == type.rank and shape[0] % batch == 0:
        return shape[0] // batch
    return 0


def _checked_count(where: str, array: Stored, type: TensorType) -> int:
    accepted = (
        array.dtype.kind in "fiub" if type.dtype is DType.F32 else array.dtype == type.dtype.numpy
    )
    if not accepted:
        wanted = "floats or integers" if type.dtype is DType.F32 else type.dtype.value
        raise CalibrationError(f"{where}: element type {array.dtype}; expected {wanted}")
    if 0 in array.shape:
        raise CalibrationError(f"{where}: shape {array.shape} is empty; expected {_shapes(type)}")
    count = _run_count(array.shape, type)
    if count == 0:
        hint = _layout_hint(array.shape, type)
        raise CalibrationError(f"{where}: shape {array.shape}; expected {_shapes(type)}{hint}")
    return count


def _layout_hint(shape: tuple[int, ...], type: TensorType) -> str:
    """How to transpose images that come in the other of NHWC and NCHW."""
    for order in ((0, 3, 1, 2), (0, 2, 3, 1)) if len(shape) == 4 else ():
        if _run_count(tuple(shape[axis] for axis in order), type):
            return f"; images of another layout: transpose{order} them"
    return ""


def _shapes(type: TensorType) -> str:
    if not type.shape:
        return "a single number ()"
    batch, *sample = type.shape
    rest = "".join(f", {extent}" for extent in sample)
    if batch == 1:
        return f"(N{rest}) or one sample {tuple(sample)}"
    return f"(N{rest}) with N a multiple of {batch}"


def _converted(where: str, part: NDArray[Any], type: TensorType) -> Array:
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(part, type.dtype.numpy).reshape(type.shape)
    if type.dtype is DType.F32 and not (array < np.inf).all():
        raise CalibrationError(
            f"{where}: NaN or infinity as f32; expected finite numbers, or -inf in masks"
        )
    return array
