"""`qcomp report`: a page with all that is known of a compiled network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import qcomp
from qcomp.cli.options import (
    Bindings,
    BoundValues,
    Classes,
    CompiledFrom,
    CompiledSamples,
    CompiledWith,
    Directory,
    LabelOffset,
    Measured,
    MeasuredOn,
    parse_bindings,
    parse_values,
    path_of_text,
)
from qcomp.cli.session import Session


def report(
    context: typer.Context,
    directory: Directory,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE.html", parser=path_of_text, help="Written."),
    ],
    model: CompiledFrom = None,
    calibration: CompiledWith = None,
    samples: CompiledSamples = None,
    data: MeasuredOn = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels of --data, as for evaluate."),
    ] = None,
    classes: Classes = None,
    label_offset: LabelOffset = 0,
    count: Measured = 32,
    advise: Annotated[
        bool, typer.Option("--advise", help="Also measure what each advice gains.")
    ] = False,
    bench: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.0, help="Also time each op on this machine, for so long."
        ),
    ] = 0.0,
    bind: Bindings = None,
    bind_value: BoundValues = None,
) -> None:
    """Write a page: the graph, errors and their causes, values, passes, memory, times."""
    path = qcomp.load(directory).report(
        output,
        model=model,
        calibration=calibration,
        data=data,
        labels=labels,
        classes=classes,
        label_offset=label_offset,
        count=count,
        advise=advise,
        bench=bench,
        samples=samples,
        bind=parse_bindings(bind),
        bind_values=parse_values(bind_value),
        progress=Session.of(context).progress,
    )
    if not Session.of(context).quiet:
        typer.echo(f"{path}: {path.stat().st_size:,} bytes")
