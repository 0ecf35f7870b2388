"""`qcomp errors`: which tensors err by how much, why, and which ops explain it at the outputs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

import qcomp
from qcomp.cli.options import (
    Bindings,
    BoundValues,
    CompiledFrom,
    CompiledSamples,
    CompiledWith,
    Directory,
    Json,
    Measured,
    MeasuredOn,
    parse_bindings,
    parse_values,
)
from qcomp.cli.session import Session
from qcomp.errors import CompileError

if TYPE_CHECKING:
    from qcomp.report.measure import Errors
    from qcomp.report.shares import Share
    from qcomp.report.sums import Figures

_COLUMNS = 80
_SHORTEST_ID = 12


def errors(
    context: typer.Context,
    directory: Directory,
    model: CompiledFrom = None,
    calibration: CompiledWith = None,
    samples: CompiledSamples = None,
    data: MeasuredOn = None,
    count: Measured = 32,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Rows of the table.")] = 20,
    bind: Bindings = None,
    bind_value: BoundValues = None,
    as_json: Json = False,
) -> None:
    """Measure the error of each tensor, alone and in the network, with its causes."""
    source = calibration if data is None else data
    if source is None:
        raise CompileError("nothing to measure on: expected --data, or --calibration")
    found = qcomp.load(directory).errors(
        source,
        count=count,
        model=model,
        calibration=calibration,
        samples=samples,
        bind=parse_bindings(bind),
        bind_values=parse_values(bind_value),
        progress=Session.of(context).progress,
    )
    typer.echo(json.dumps(plain(found), allow_nan=False) if as_json else report(found, top))


def plain(found: Errors) -> dict[str, Any]:
    """The object that `--json` prints; ratios that are not finite are null."""
    shares = {share.id: share for share in found.shares}
    tensors = []
    for error in found.tensors:
        alone, share = error.isolated, shares.get(error.id)
        record: dict[str, Any] = {
            "id": error.id,
            "op": error.mnemonic,
            "float": error.real,
            "scale": error.qparams.scale,
            "zero_point": error.qparams.zero_point,
            "cumulative": error.cumulative and _figures(error.cumulative),
            "isolated": None if alone is None else _figures(alone.figures),
            "reason": error.reason,
        }
        if alone is not None:
            record["clipped"] = alone.clipped
            record["causes"] = {
                cause.value: power / alone.figures.noise.noise if alone.figures.noise.noise else 0.0
                for cause, power in alone.causes.items()
                if cause not in alone.outside
            }
        if share is not None:
            record["share"] = share.share
            record["sqnr_db_at_outputs"] = _finite(share.noise.db)
        tensors.append(record)
    return {
        "name": found.name,
        "samples": found.samples,
        "sqnr_db_output": _finite(found.output_noise.db),
        "ranking": [share.id for share in found.shares],
        "tensors": tensors,
        "notes": list(found.notes),
    }


def _figures(figures: Figures) -> dict[str, Any]:
    noise = figures.noise.noise
    return {
        "sqnr_db": _finite(figures.sqnr_db),
        "cosine": figures.cosine,
        "max_steps": figures.max_steps,
        "bias": figures.bias / noise if noise else 0.0,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def report(found: Errors, top: int) -> str:
    """The ops that explain most of the error at the outputs."""
    heads = ["tensor", "op", "share", "alone", "in all", "cause", "shift"]
    lines = [
        f"{found.name} on {found.samples} samples: outputs {_db(found.output_noise.db)} dB",
        f"ops by what each alone does to the outputs, on {found.shared_samples} samples; together "
        f"{_db(found.explained.db)} dB:",
        *_aligned([heads, *(_row(found, share) for share in found.shares[:top])]),
        *(f"note: {note}" for note in found.notes),
    ]
    return "\n".join(lines)


def _row(found: Errors, share: Share) -> list[str]:
    error = found.of[share.id]
    alone = error.isolated
    assert alone is not None  # else it has no share
    noise = alone.figures.noise.noise
    cause = alone.causes[alone.main_cause] / noise if noise else 0.0
    return [
        share.id,
        error.mnemonic,
        f"{100 * share.share:.1f} %",
        _db(alone.figures.sqnr_db),
        "" if error.cumulative is None else _db(error.cumulative.sqnr_db),
        f"{alone.main_cause} {100 * cause:.0f} %",
        f"{100 * alone.figures.bias / noise if noise else 0.0:.0f} %",
    ]


def _aligned(rows: list[list[str]]) -> list[str]:
    """In 80 columns: of ids that are too long the end stands there, which tells them apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = min(widths[0], max(_COLUMNS - sum(widths[1:]) - 2 * len(widths[1:]), _SHORTEST_ID))
    lines = []
    for id, kind, *figures in rows:
        shown = id if len(id) <= widths[0] else f"…{id[-widths[0] + 1 :]}"
        cells = [f"{shown:<{widths[0]}}", f"{kind:<{widths[1]}}"]
        cells += [f"{f:>{w}}" for f, w in zip(figures, widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _db(value: float) -> str:
    return f"{value:.1f}"
