"""`qcomp report`: a page with all that is known of a compiled network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import qcomp
from qcomp.cli.options import (
    Bindings,
    BoundValues,
    Directory,
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
    model: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="The float model it was compiled from."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE_OR_DIR", help="What it was calibrated with, for --model."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, metavar="N", help="The --samples of compile.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE_OR_DIR", help="To measure on; else that of --calibration."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels of --data, as for evaluate."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The name of each class, in the order of the outputs."),
    ] = None,
    label_offset: Annotated[
        int, typer.Option("--label-offset", metavar="N", help="The output of class 0.")
    ] = 0,
    count: Annotated[
        int, typer.Option("--count", min=1, metavar="N", help="Samples to measure on, at most.")
    ] = 32,
    advise: Annotated[
        bool, typer.Option("--advise", help="Also measure what each advice gains.")
    ] = False,
    bind: Bindings = None,
    bind_value: BoundValues = None,
) -> None:
    """Write a page: the graph with each op's error, its causes, values, passes and memory."""
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
        samples=samples,
        bind=parse_bindings(bind),
        bind_values=parse_values(bind_value),
        progress=Session.of(context).progress,
    )
    if not Session.of(context).quiet:
        typer.echo(f"{path}: {path.stat().st_size:,} bytes")
