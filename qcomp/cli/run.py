"""`qcomp run`: arrays in, arrays out, through the compiled library."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
import typer
from numpy.typing import NDArray

from qcomp.cli.options import Directory
from qcomp.errors import CompileError, OutputError
from qcomp.store import load

Arrays = Mapping[str, NDArray[Any]]


def run(
    directory: Directory,
    input: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT.npy",
            help="Samples along the first axis; an .npz by name for several inputs. "
            "int8 is taken as quantized and gives integers; floats give floats.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUTPUT.npy", help="An .npz holds several outputs by name."
        ),
    ],
) -> None:
    """Run the library on arrays in files."""
    net = load(directory)
    feed = read_arrays(input, [i.name for i in net.inputs])
    quantized = all(a.dtype == np.int8 for a in feed.values())
    try:
        answer: Arrays = net.run_integer(feed) if quantized else net(feed)
    except ValueError as error:
        raise CompileError(f"{input} does not fit {net.name}: {error}") from error
    if len(answer) > 1 and output.suffix != ".npz":
        names = ", ".join(answer)
        raise CompileError(f"{net.name} has {len(answer)} outputs ({names}): -o must be an .npz")
    write_arrays(output, answer)


def read_arrays(path: Path, names: list[str]) -> Arrays:
    """The inputs by name; CompileError where the file is no array file."""
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            arrays = {names[0]: stored}
        else:
            with stored:
                arrays = {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise CompileError(f"{path} is neither .npy nor .npz: {error}") from error
    if set(arrays) != set(names):
        raise CompileError(f"{path} holds {sorted(arrays)}; expected the inputs {sorted(names)}")
    return arrays


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write aside, then rename, so that a failure leaves no half of a file."""
    aside = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            aside = Path(file.name)
            if path.suffix == ".npz":
                np.savez(file, **dict(arrays))  # type: ignore[arg-type]
            else:
                np.save(file, next(iter(arrays.values())))
        aside.chmod(0o644)
        os.replace(aside, path)
    except OSError as error:
        if aside is not None:
            aside.unlink(missing_ok=True)
        raise OutputError(f"can't write {path}: {error.strerror or error}") from error
