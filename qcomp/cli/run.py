"""`qcomp run`: samples in, arrays out, through the compiled library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import qcomp
from qcomp.cli.options import Directory
from qcomp.cli.pictures import over, takes_pictures
from qcomp.cli.session import Session
from qcomp.errors import CompileError
from qcomp.preprocessing import Preprocessing

if TYPE_CHECKING:
    from qcomp.cli.arrays import Arrays
    from qcomp.runtime.network import CompiledNetwork


@takes_pictures
def run(
    context: typer.Context,
    directory: Directory,
    input: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A .npy with samples along the first axis, an .npz by name for several inputs, or "
            "what `evaluate` takes: pictures, sounds, a Python file. int8 (int16, where inputs "
            "have 16 bits) in a .npy is taken as quantized and gives integers; all else floats.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUTPUT.npy", help="An .npz holds several outputs by name."
        ),
    ],
    samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="At most, evenly spread over files; default: all."),
    ] = None,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Run the library on samples in files."""
    from qcomp.cli.arrays import write_arrays

    net = qcomp.load(directory)
    if len(net.outputs) > 1 and output.suffix != ".npz":
        names = ", ".join(o.name for o in net.outputs)
        raise CompileError(
            f"{net.name} has {len(net.outputs)} outputs ({names}): -o must be an .npz"
        )
    if _holds_arrays(input) and samples is None and preprocessing is None:
        write_arrays(output, _of_arrays(net, input))
        return
    from qcomp.evaluation.run import outputs_of

    how, shown = over(preprocessing, net.config.preprocessing), Session.of(context).progress
    answers = outputs_of(net, input, samples=samples, preprocessing=how, progress=shown)
    write_arrays(output, answers)


def _holds_arrays(input: Path) -> bool:
    """Whether it is a file that is no picture, no sound and no program."""
    from qcomp.data.files import ARRAYS, kind_of

    return not input.is_dir() and input.suffix != ".py" and kind_of(input) in (ARRAYS, None)


def _of_arrays(net: CompiledNetwork, input: Path) -> Arrays:
    """The whole file at once: integers of the inputs' types, or floats."""
    from qcomp.cli.arrays import read_arrays

    feed = read_arrays(input, [i.name for i in net.inputs])
    quantized = all(feed[info.name].dtype == info.dtype for info in net.inputs)
    try:
        answer: Arrays = net.run_integer(feed) if quantized else net(feed)
    except ValueError as error:
        raise CompileError(f"{input} does not fit {net.name}: {error}") from error
    return answer
