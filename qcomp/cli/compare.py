"""`qcomp compare`: which op of a device is the first that is not as specified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcomp.cli.options import Directory, Json, path_of_text

if TYPE_CHECKING:
    from qcomp.debug.compare import Comparison

DIFFERENT = 1
_MOST = 5  # tensors that are listed


def compare(
    directory: Directory,
    device_dump: Annotated[
        Path | None,
        typer.Option(
            "--device-dump", metavar="FILE", help="What a tap wrote; else the library runs here."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Random vectors to run, where it runs here.")
    ] = 4,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.npz",
            parser=path_of_text,
            help="Write the first tensor that differs, with its operands.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare all tensors of runs with the specification; exit status 1 if a value differs."""
    import qcomp
    from qcomp.debug.compare import compare_dump, compare_here

    net = qcomp.load(directory)
    found = compare_here(net, samples) if device_dump is None else compare_dump(net, device_dump)
    if output is not None and found.first is not None:
        import numpy as np

        with output.open("wb") as file:
            np.savez(file, allow_pickle=False, **found.first.arrays())
    typer.echo(json.dumps(found.json()) if as_json else told(found))
    if not found.exact:
        raise typer.Exit(DIFFERENT)


def told(found: Comparison) -> str:
    """The report for people."""
    lines = [f"{found.runs} runs, {found.tensors} tensors, {found.values:,} values compared"]
    if found.absent:
        listed = ", ".join(f"%{id}" for id in found.absent[:_MOST])
        more = f" and {len(found.absent) - _MOST} more" if len(found.absent) > _MOST else ""
        lines.append(f"  not told of: {listed}{more}")
    lines += _clipped(found)
    first = found.first
    if first is None:
        return "\n".join([*lines, "no value differs"])
    place = ", ".join(map(str, first.place))
    lines += [
        f"{len(found.differing)} tensors differ",
        f"first op that differs, in {first.run}: tensor {first.number}, %{first.tensor}",
        *(f"  {line}" for line in first.ops),
        f"  {first.differing:,} of {first.got.size:,} values differ; first at [{place}]: "
        f"{first.got[first.place]}, expected {first.expected[first.place]}",
        f"  {first.pattern}",
    ]
    for id, value in first.operands.items():
        type = f"{value.dtype}{list(value.shape)}, {value.min()} to {value.max()}"
        lines.append(f"  its operand %{id} is as specified: {type}")
    return "\n".join(lines)


def _clipped(found: Comparison) -> list[str]:
    """The tensors with the largest shares of clipped values."""
    shares = sorted(found.clipped.items(), key=lambda item: -item[1])[:_MOST]
    if not shares:
        return []
    listed = ", ".join(f"%{id} {share:.2%}" for id, share in shares)
    return [f"  at an end of their integers: {listed}"]
