"""`qcomp run`: arrays in, arrays out, through the compiled library."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from qcomp.calibration.npy import DAMAGES, check_compression
from qcomp.cli.options import Directory
from qcomp.errors import CompileError
from qcomp.files import open_regular, write_file
from qcomp.store import load

Arrays = Mapping[str, NDArray[Any]]

_MAGICS = (b"\x93NUMPY", b"PK")  # np.load takes any other file for a pickle


def run(
    directory: Directory,
    input: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT.npy",
            help="Samples along the first axis; an .npz by name for several inputs. "
            "int8 (int16, where inputs have 16 bits) is taken as quantized and gives integers; "
            "floats give floats.",
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
    if len(net.outputs) > 1 and output.suffix != ".npz":
        names = ", ".join(o.name for o in net.outputs)
        raise CompileError(
            f"{net.name} has {len(net.outputs)} outputs ({names}): -o must be an .npz"
        )
    feed = read_arrays(input, [i.name for i in net.inputs])
    quantized = all(feed[info.name].dtype == info.dtype for info in net.inputs)
    try:
        answer: Arrays = net.run_integer(feed) if quantized else net(feed)
    except ValueError as error:
        raise CompileError(f"{input} does not fit {net.name}: {error}") from error
    write_arrays(output, answer)


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
