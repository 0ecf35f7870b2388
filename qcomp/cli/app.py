"""The commands, and the one place where a user's mistake becomes exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from qcomp.cli.bisect import bisect
from qcomp.cli.check import bench, verify
from qcomp.cli.compare import compare
from qcomp.cli.compile import compile
from qcomp.cli.diff import diff
from qcomp.cli.doctor import doctor
from qcomp.cli.errors import errors
from qcomp.cli.evaluate import evaluate
from qcomp.cli.explain import explain
from qcomp.cli.export import export
from qcomp.cli.inspect import inspect
from qcomp.cli.passes import passes
from qcomp.cli.precision import sensitivity
from qcomp.cli.report import report
from qcomp.cli.run import run as run_samples
from qcomp.cli.search import search
from qcomp.cli.session import Session, hoisted
from qcomp.cli.settings import defaults
from qcomp.errors import CompileError

USER_MISTAKE = 2

app = typer.Typer(
    help="From a trained float network to an integer-only C library.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    inspect,
    explain,
    diff,
    compile,
    evaluate,
    verify,
    compare,
    bench,
    run_samples,
    passes,
    errors,
    report,
    export,
    bisect,
    sensitivity,
    search,
    doctor,
)
for command in COMMANDS:
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        import qcomp

        typer.echo(f"qcomp {qcomp.__version__}")
        raise typer.Exit


@app.callback()
def of_every_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and end.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Errors only: no progress, warnings or report.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option("-v", "--verbose", count=True, help="Tell of every step; -vv of all."),
    ] = 0,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="No bars, and no lines in their place.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Options by command, in TOML; else qcomp.toml or pyproject.toml here, if any.",
        ),
    ] = None,
) -> None:
    """From a trained float network to an integer-only C library."""
    session = Session(quiet=quiet, verbose=verbose, hides_progress=no_progress)
    session.begin(context)
    commands = typer.main.get_group(app).commands
    context.default_map = defaults(config, {n: c.params for n, c in commands.items()}, session)


def run(args: Sequence[str] | None = None) -> None:
    """Run one command; always raises SystemExit."""
    try:
        app(hoisted(sys.argv[1:] if args is None else args))
    except (CompileError, OSError) as error:
        print(f"qcomp: error: {error}", file=sys.stderr)
        raise SystemExit(USER_MISTAKE) from None
    except MemoryError as error:
        print(f"qcomp: error: not enough memory: {error}".rstrip(": "), file=sys.stderr)
        raise SystemExit(USER_MISTAKE) from None
