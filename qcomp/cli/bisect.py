"""`qcomp bisect`: which pass or choice costs accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcomp.cli.options import (
    Bindings,
    BoundValues,
    Calibration,
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

if TYPE_CHECKING:
    from qcomp.debug.bisection import Bisection, Trial


@takes_pictures
def bisect(
    context: typer.Context,
    model: Model,
    metric: Annotated[
        str,
        typer.Option(
            metavar="M",
            help="sqnr, agreement, top1, exact, or a .py file with metric(outputs, labels).",
        ),
    ] = "sqnr",
    calibration: Calibration = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Measured on this, as `evaluate` takes it."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of --data, as for `evaluate`.")
    ] = None,
    label_offset: Annotated[
        int, typer.Option("--label-offset", metavar="N", help="The output of class 0.")
    ] = 0,
    target: Annotated[str, typer.Option(metavar="T", help="As for `compile`.")] = "native",
    samples: Samples = None,
    bind: Bindings = None,
    bind_value: BoundValues = None,
    recipe: Annotated[
        str, typer.Option(help="How the network is quantized: a name, or a .yaml file.")
    ] = "fast",
    per_tensor: Annotated[
        bool, typer.Option("--per-tensor", help="One weight scale per tensor, as for `compile`.")
    ] = False,
    as_json: Json = False,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Make each pass and choice otherwise, alone and together, and name what costs accuracy."""
    from qcomp.debug.bisect import bisect as search

    found = search(
        model,
        metric,
        calibration=calibration,
        data=data,
        labels=labels,
        label_offset=label_offset,
        target=target,
        config=QuantizationConfig(
            recipe=recipe, per_channel=not per_tensor, preprocessing=preprocessing
        ),
        bind=parse_bindings(bind),
        bind_values=parse_values(bind_value),
        samples=samples,
        progress=Session.of(context).progress,
    )
    typer.echo(json.dumps(found.json(), allow_nan=False) if as_json else told(found))


def told(found: Bisection) -> str:
    """The report for people."""
    from qcomp.cli.facts import new_table, rendered, width, wrapped

    columns, unit = width(), found.unit
    lines = [f"{found.metric} on {found.samples:,} samples: {found.base:.4g}{unit} as configured"]
    if found.of_float is not None:
        lines[0] += f", {found.of_float:.4g}{unit} of the float network"
    lines += [wrapped(f"  noticed: {text}", columns) for text in found.data]
    table = new_table(("made otherwise",), (found.metric, "gain"))
    for trial in found.trials:
        table.add_row(*_cells(trial, columns - 20))
    lines += [rendered(table, columns)] if found.trials else []
    return "\n".join([*lines, wrapped(f"cause: {found.verdict}", columns)])


def _cells(trial: Trial, columns: int) -> tuple[str, str, str]:
    from qcomp.cli.facts import cut

    if trial.value is None:
        return cut(f"{trial}: {trial.reason}" if trial.reason else str(trial), columns), "", ""
    gain = "" if trial.gain is None else f"{trial.gain:+.3g}"
    return cut(str(trial), columns), f"{trial.value:.4g}", gain
