"""Arrays from files and into files, as `qcomp run` reads and writes them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.npy import DAMAGES, check_compression
from qcomp.errors import CompileError
from qcomp.files import open_regular, write_file

Arrays = Mapping[str, NDArray[Any]]

_MAGICS = (b"\x93NUMPY", b"PK")  # np.load takes any other file for a pickle


def read_arrays(path: Path, names: list[str]) -> Arrays:
    """The inputs by name; CompileError where the file is no array file."""
    try:
        with open_regular(path) as file:
            if not file.read(6).startswith(_MAGICS):
                raise ValueError("it holds no arrays")
            file.seek(0)
            stored = np.load(file, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                arrays = {names[0]: stored}
            else:
                with stored:
                    check_compression(stored.zip)
                    arrays = {name: stored[name] for name in stored.files}
    except OSError as error:
        raise CompileError(f"{path} can't be read: {error.strerror or error}") from error
    except DAMAGES as error:
        raise CompileError(f"{path} is neither .npy nor .npz: {error}") from error
    if set(arrays) != set(names):
        raise CompileError(f"{path} holds {sorted(arrays)}; expected the inputs {sorted(names)}")
    return arrays


def write_arrays(path: Path, arrays: Arrays) -> None:
    """An .npz of all arrays, or an .npy of the only one; OutputError leaves what was there."""
    content = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(content, **dict(arrays))  # type: ignore[arg-type]
    else:
        np.save(content, next(iter(arrays.values())))
    write_file(path, content.getvalue())
