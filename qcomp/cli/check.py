"""`qcomp verify` and `qcomp bench`: is the library right, and how fast is it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcomp.cli.options import Directory, Json, path_of_text
from qcomp.cli.session import Session
from qcomp.files import write_file
from qcomp.progress import bar

if TYPE_CHECKING:
    from qcomp.runtime.benchmark import BenchReport

DIFFERENT = 1


def verify(
    context: typer.Context,
    directory: Directory,
    samples: Annotated[int, typer.Option(min=0, help="Random vectors to run.")] = 32,
    emit_c: Annotated[
        Path | None,
        typer.Option(
            "--emit-c",
            metavar="FILE",
            parser=path_of_text,
            help="Run nothing: write a C program that does, on the library's machine.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the library with its integer specification; exit status 1 if a bit differs."""
    from qcomp.runtime.verification import check_program_of, verify_directory

    if emit_c is not None:
        with bar("answering", shown=Session.of(context).progress) as vectors:
            text = check_program_of(directory, samples, progress=vectors.advance)
        write_file(emit_c, text.encode())
        return
    with bar("verifying", shown=Session.of(context).progress) as vectors:
        report = verify_directory(directory, samples, progress=vectors.advance)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report)))
    else:
        typer.echo(
            f"{report.samples} vectors on {', '.join(report.isas)}"
            f"{'' if report.tools is None else f' by {report.tools}'}, "
            f"{report.compared_values} values compared: "
            f"{report.differing_bits} differing bits"
        )
        if report.first_difference is not None:
            typer.echo(f"first difference: {report.first_difference}")
    if not report.exact:
        raise typer.Exit(DIFFERENT)


def bench(
    directory: Directory,
    threads: Annotated[int, typer.Option(min=1, help="Threads that share each run.")] = 1,
    callers: Annotated[
        int, typer.Option(min=1, help="Callers at once, each with its own arena.")
    ] = 1,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long to measure.")] = 2.0,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also time each layer, and say what bounds it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure one run of the library."""
    from qcomp.runtime.benchmark import bench_directory

    if layers and callers > 1:
        raise typer.BadParameter("one caller at a time", param_hint="--layers")
    if layers:
        from qcomp.cli.layers import layer_table
        from qcomp.runtime.profile import bench_layers

        by_layer = bench_layers(directory, seconds, threads)
        text = layer_table(by_layer) + line(by_layer.network)
        typer.echo(json.dumps(dataclasses.asdict(by_layer)) if as_json else text)
        return
    report = bench_directory(directory, seconds, callers, threads)
    typer.echo(json.dumps(dataclasses.asdict(report)) if as_json else line(report))


def line(report: BenchReport) -> str:
    """The whole network, for people."""
    return (
        f"median {report.median_us:.1f} us, p10 {report.p10_us:.1f}, p90 {report.p90_us:.1f}; "
        f"{report.runs} runs of {report.threads} threads, {report.callers} at once, "
        f"{report.runs_per_second:.0f} per second"
    )
