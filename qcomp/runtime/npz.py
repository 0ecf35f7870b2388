"""Arrays that `save` wrote: an .npz without compression, so what is read is no larger than it."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from qcomp.files import open_regular

_VERSION = (1, 0)
# What zipfile and numpy raise on damaged files, besides ValueError and OSError.
_DAMAGES = (
    EOFError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    TypeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name, which can't be written to; ValueError or OSError for other files."""
    try:
        return _read(path)
    except _DAMAGES as error:
        raise ValueError(f"{path.name}: {error}") from error


def _read(path: Path) -> dict[str, NDArray[Any]]:
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        found = {}
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or not entry.filename.endswith(".npy"):
                raise ValueError(f"{path.name}: {entry.filename} is not as numpy.savez writes it")
            with archive.open(entry) as stored:
                found[entry.filename.removesuffix(".npy")] = _array(stored, entry.file_size)
        return found


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    if npy_format.read_magic(file) != _VERSION:
        raise ValueError("an array is not of numpy's first format")
    shape, fortran_order, dtype = npy_format.read_array_header_1_0(file)
    if dtype.hasobject or not all(type(n) is int for n in shape):
        raise ValueError("an array does not hold numbers")
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"an array of {size} bytes has the shape {list(shape)}")
    data = file.read(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")
