"""Arrays in .npy and .npz files, read part by part: memory does not grow with the file.

numpy's own loader maps a .npy file, whose pages then count as the process's memory, and reads an
entry of an .npz file as a whole.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
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
    shape, fortran_order, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects; expected numbers")
    return NpyArray(tuple(shape), dtype, bool(fortran_order), file)


@contextmanager
def open_npy(path: Path) -> Iterator[NpyArray]:
    """The array of a .npy file; CalibrationError if it can't be read."""
    with _reading(path), open_regular(path) as file:
        yield read_header(file)


@contextmanager
def open_npz(path: Path, names: Sequence[str]) -> Iterator[dict[str, NpyArray]]:
    """One array for each of `names`; the only array of a file serves any single name."""
    with _reading(path), ExitStack() as entries:
        file = entries.enter_context(open_regular(path))
        archive = entries.enter_context(zipfile.ZipFile(file))
        check_compression(archive)
        found = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        chosen = {name: name for name in names if name in found}
        if len(names) == 1 and not chosen and len(found) == 1:
            chosen = {names[0]: found[0]}
        missing = [name for name in names if name not in chosen]
        if missing:
            raise CalibrationError(
                f"{path}: no array for input {', '.join(missing)}; "
                f"it has {', '.join(found) or 'none'}"
            )
        yield {
            name: read_header(entries.enter_context(archive.open(f"{entry}.npy")))
            for name, entry in chosen.items()
        }


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *DAMAGES) as error:
        raise CalibrationError(f"{path}: can't be read: {error}") from error
