"""`qcomp run`: arrays in, arrays out, through the compiled library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import qcomp
from qcomp.cli.options import Directory
from qcomp.errors import CompileError

if TYPE_CHECKING:
    from qcomp.cli.arrays import Arrays


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
    from qcomp.cli.arrays import read_arrays, write_arrays

    net = qcomp.load(directory)
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
