"""`qcomp evaluate`: how good the float network, the integer one or both are on labelled data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import qcomp
from qcomp.cli.options import (
    Bindings,
    BoundValues,
    Classes,
    Json,
    LabelOffset,
    parse_bindings,
    parse_values,
)
from qcomp.cli.pictures import over, takes_pictures
from qcomp.cli.session import Session
from qcomp.errors import CompileError
from qcomp.preprocessing import Preprocessing


@takes_pictures
def evaluate(
    context: typer.Context,
    network: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_MODEL",
            help="A directory that `qcomp compile` wrote, or the float model alone.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with a folder for each class, an .npz with labels, or a Python file.",
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="The float model to compare a directory with."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Lines of `file label` or of labels; or a .npy."),
    ] = None,
    classes: Classes = None,
    label_offset: LabelOffset = 0,
    samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="At most, evenly spread over files; default: all."),
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, metavar="N", help="Samples to name that differ most.")
    ] = 5,
    bind: Bindings = None,
    bind_value: BoundValues = None,
    as_json: Json = False,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Measure top-1, top-5, agreement with the float network and SQNR on labelled data."""
    net = qcomp.load(network) if network.is_dir() else None
    if net is None and model is not None:
        raise CompileError(f"{network} is a model, so --model has nothing to compare; give one")
    found = qcomp.evaluate(
        network if net is None else model,
        net,
        data,
        labels,
        samples=samples,
        preprocessing=over(preprocessing, None if net is None else net.config.preprocessing),
        classes=classes,
        label_offset=label_offset,
        worst=worst,
        bind=parse_bindings(bind),
        bind_values=parse_values(bind_value),
        progress=Session.of(context).progress,
    )
    typer.echo(json.dumps(found.json(), allow_nan=False) if as_json else str(found))
