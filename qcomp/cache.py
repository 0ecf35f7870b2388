"""Results that are done, in a directory, so that what was interrupted goes on where it stopped.

One .npz of float64 arrays for each, named by a digest of all that it depends on. It appears by one
rename, so files are whole or absent; one that is damaged, or is something else, counts as absent.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import OutputError
from qcomp.files import open_regular, write_file

F64 = NDArray[np.float64]

LARGEST = 1 << 31


def digest(texts: Iterable[str], arrays: Iterable[NDArray[np.generic]]) -> str:
    """Of texts and arrays, with their types and shapes."""
    found = hashlib.sha256()
    for text in texts:
        found.update(f"{text}\n".encode())
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def load(directory: Path, key: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, F64] | str:
    """The f64 arrays kept under a key, or what is wrong; "" where nothing is kept."""
    path = directory / f"{key}.npz"
    if not path.exists():
        return ""
    try:
        if path.stat().st_size > LARGEST:
            return f"{path} is too large"
        with open_regular(path) as file, np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in shapes}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        return f"{path} is damaged: {error}"
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
            return f"{path} is damaged: {name} is {array.dtype}{array.shape}"
    return arrays


def save(directory: Path, key: str, arrays: Mapping[str, F64]) -> None:
    """Written aside, then renamed; OutputError."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"can't write {directory}: {error.strerror or error}") from error
    write_file(directory / f"{key}.npz", buffer.getvalue())
