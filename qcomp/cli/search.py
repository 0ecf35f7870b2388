"""`qcomp search`: bits for each layer under a budget, as a recipe for `qcomp compile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import qcomp
from qcomp.cli.options import (
    TARGET_NAMES,
    Bindings,
    BoundValues,
    Cache,
    Json,
    Model,
    Samples,
    parse_bindings,
    parse_values,
    path_of_text,
)
from qcomp.cli.pictures import takes_pictures
from qcomp.cli.precision import (
    FAST,
    ActivationBits,
    Calibration,
    Processes,
    Recipe,
    Scheduler,
    WeightBits,
)
from qcomp.cli.session import Session
from qcomp.config import QuantizationConfig
from qcomp.errors import OutputError
from qcomp.preprocessing import Preprocessing


@takes_pictures
def search(
    context: typer.Context,
    model: Model,
    calibration: Calibration,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", parser=path_of_text, help="The recipe (YAML)."
        ),
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Of the weights, as they are stored.")
    ] = None,
    max_latency: Annotated[
        float | None, typer.Option(metavar="US", help="Of a run, estimated, in microseconds.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(metavar="P", help="Share of samples whose largest output may change."),
    ] = None,
    bind: Bindings = None,
    bind_value: BoundValues = None,
    recipe: Recipe = FAST,
    target: Annotated[
        str, typer.Option(metavar="T", help=f"Whose latency is estimated: {TARGET_NAMES}.")
    ] = "native",
    weight_bits: WeightBits = None,
    activation_bits: ActivationBits = None,
    method: Annotated[str, typer.Option(help="front or greedy.")] = "front",
    points: Annotated[int, typer.Option(min=2, help="Of the front that are simulated.")] = 12,
    processes: Processes = None,
    scheduler: Scheduler = None,
    cache: Cache = None,
    samples: Samples = None,
    as_json: Json = False,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Choose the bits of each layer: the least error in a budget, or the least size in a loss."""
    from qcomp.precision.run import ACTIVATION_BITS, WEIGHT_BITS
    from qcomp.recipes.file import recipe_text

    found = qcomp.mixed_precision(
        model,
        calibration=calibration,
        samples=samples,
        config=QuantizationConfig(recipe=recipe, preprocessing=preprocessing),
        bind=parse_bindings(bind),
        bind_values=parse_values(bind_value),
        target=target,
        weight_bits=tuple(weight_bits or WEIGHT_BITS),
        activation_bits=tuple(activation_bits or ACTIVATION_BITS),
        max_bytes=max_bytes,
        max_latency=max_latency,
        max_drop=max_drop,
        method=method,
        points=points,
        processes=processes,
        scheduler=scheduler,
        cache=cache,
        progress=Session.of(context).progress,
    )
    if output is not None:
        try:
            output.write_text(recipe_text(found.config), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"can't write {output}: {error.strerror}") from error
    typer.echo(json.dumps(found.json(), allow_nan=False) if as_json else str(found))
