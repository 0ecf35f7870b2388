"""`qcomp sensitivity`: what each layer's rounding costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import qcomp
from qcomp.cli.options import (
    Bindings,
    BoundValues,
    Cache,
    Json,
    Model,
    Samples,
    parse_bindings,
    parse_values,
)
from qcomp.cli.pictures import takes_pictures
from qcomp.cli.session import Session
from qcomp.config import QuantizationConfig
from qcomp.preprocessing import Preprocessing

FAST = "fast"
Calibration = Annotated[
    Path,
    typer.Option(
        metavar="FILE_OR_DIR",
        help="A .npy or .npz file, a directory of them, or a folder of pictures or sounds.",
    ),
]
Recipe = Annotated[
    str, typer.Option(help="fast, data-free or a .yaml file: how the network is quantized.")
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Share the work; default: one for each processor."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Of a dask.distributed cluster that does the work."),
]
WeightBits = Annotated[
    list[int] | None, typer.Option(metavar="N", help="May be repeated; 8 and 4 unless given.")
]
ActivationBits = Annotated[
    list[int] | None, typer.Option(metavar="N", help="May be repeated; 8 and 16 unless given.")
]


@takes_pictures
def sensitivity(
    context: typer.Context,
    model: Model,
    calibration: Calibration,
    samples: Samples = None,
    bind: Bindings = None,
    bind_value: BoundValues = None,
    recipe: Recipe = FAST,
    weight_bits: WeightBits = None,
    activation_bits: ActivationBits = None,
    processes: Processes = None,
    scheduler: Scheduler = None,
    cache: Cache = None,
    as_json: Json = False,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Output SQNR with only one layer rounded, and with only it in float."""
    from qcomp.precision.run import ACTIVATION_BITS, WEIGHT_BITS

    table = qcomp.sensitivity(
        model,
        calibration=calibration,
        samples=samples,
        config=QuantizationConfig(recipe=recipe, preprocessing=preprocessing),
        bind=parse_bindings(bind),
        bind_values=parse_values(bind_value),
        weight_bits=tuple(weight_bits or WEIGHT_BITS),
        activation_bits=tuple(activation_bits or ACTIVATION_BITS),
        processes=processes,
        scheduler=scheduler,
        cache=cache,
        progress=Session.of(context).progress,
    )
    typer.echo(json.dumps(table.json(), allow_nan=False) if as_json else str(table))
