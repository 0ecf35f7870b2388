"""Arrays in .npy and .npz files, read part by part: memory does not grow with the file.

numpy's own loader maps a .npy file, whose pages then count as the process's memory, and reads an
entry of an .npz file as a whole.
"""

from __future__ import annotations

import difflib
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from qcomp.errors import CalibrationError
from qcomp.files import open_regular

MAX_FORTRAN_BYTES = 1 << 28
_HEADERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}
_UNNAMED = "arr_0"  # numpy.savez calls a single array so that was given no name
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# What numpy and zipfile raise on damaged files.
DAMAGES = (
    EOFError,
    RuntimeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def check_compression(archive: zipfile.ZipFile) -> None:
    """ValueError for compressions that numpy does not write."""
    for entry in archive.infolist():
        if entry.compress_type not in _COMPRESSIONS:
            raise ValueError(
                f"{entry.filename} is compressed by method {entry.compress_type}; expected what "
                "numpy.savez and numpy.savez_compressed write"
            )


@dataclass(frozen=True)
class NpyArray:
    """An array of which only the header has been read; `file` stands at its first element."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    file: IO[bytes]

    def parts(self, count: int) -> Iterator[NDArray[Any]]:
        """`count` equal parts along the first axis, in order; the whole array if count is 1."""
        if self.fortran_order:
            size = math.prod(self.shape) * self.dtype.itemsize
            if size > MAX_FORTRAN_BYTES:
                raise ValueError(
                    f"{size} bytes in Fortran order, which can't be read in parts; expected up to "
                    f"{MAX_FORTRAN_BYTES}, or C order (numpy.ascontiguousarray)"
                )
            yield from np.split(self._read(self.shape), count)
            return
        part = self.shape if count == 1 else (self.shape[0] // count, *self.shape[1:])
        for _ in range(count):
            yield self._read(part)

    def _read(self, shape: tuple[int, ...]) -> NDArray[Any]:
        wanted = math.prod(shape) * self.dtype.itemsize
        data = self.file.read(wanted)
        if len(data) != wanted:
            raise ValueError("the file is truncated")
        return np.frombuffer(data, self.dtype).reshape(
            shape, order="F" if self.fortran_order else "C"
        )


def read_header(file: IO[bytes]) -> NpyArray:
    """Parse the header; ValueError if it is none, or one of Python objects."""
    version = npy_format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"npy format {version} is not supported")
    try:
        shape, fortran_order, dtype = _HEADERS[version](file)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:  # of its parser
        raise ValueError(f"its header is damaged: {error}") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects; expected numbers")
    if not all(type(extent) is int for extent in shape):
        raise ValueError(f"its shape is {shape}; expected whole numbers")
    return NpyArray(tuple(shape), dtype, bool(fortran_order), file)


@contextmanager
def open_npy(path: Path) -> Iterator[NpyArray]:
    """The array of a .npy file; CalibrationError if it can't be read."""
    with _reading(path), open_regular(path) as file:
        yield read_header(file)


@contextmanager
def open_npz(
    path: Path, names: Sequence[str], tell: Callable[[str], None] | None = None
) -> Iterator[dict[str, NpyArray]]:
    """One array for each of `names`; an array without a name (arr_0) serves any single name.

    Other arrays beside them are left out, which is told.
    """
    with _reading(path), ExitStack() as entries:
        file = entries.enter_context(open_regular(path))
        archive = entries.enter_context(zipfile.ZipFile(file))
        check_compression(archive)
        found = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        chosen = {name: name for name in names if name in found}
        if len(names) == 1 and not chosen and found == [_UNNAMED]:
            chosen = {names[0]: _UNNAMED}
        missing = [name for name in names if name not in chosen]
        if missing:
            raise CalibrationError(_without(path, missing, found))
        if tell is not None and (extra := [n for n in found if n not in chosen.values()]):
            tell(f"{path.name}: {', '.join(extra)} left out: no input has that name")
        yield {
            name: read_header(entries.enter_context(archive.open(f"{entry}.npy")))
            for name, entry in chosen.items()
        }


def _without(path: Path, missing: Sequence[str], found: Sequence[str]) -> str:
    """The message for arrays that are not there."""
    message = (
        f"{path}: no array for input {', '.join(missing)}; it has {', '.join(found) or 'none'}"
    )
    if len(missing) > 1 or not found:
        return message
    (near, *_) = difflib.get_close_matches(missing[0], found, 1, 0.0)
    return f"{message}: numpy.savez(..., {missing[0]}={near}), if {near} is what the network takes"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *DAMAGES) as error:
        raise CalibrationError(f"{path}: can't be read: {error}") from error
