"""The commands, and the one place where a user's mistake becomes exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from qcomp.cli.check import bench, verify
from qcomp.cli.compile import compile
from qcomp.cli.export import export
from qcomp.cli.inspect import inspect
from qcomp.cli.precision import sensitivity
from qcomp.cli.run import run
from qcomp.cli.search import search
from qcomp.errors import CompileError

USER_MISTAKE = 2

app = typer.Typer(
    help="From a trained float network to an integer-only C library.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (inspect, compile, verify, bench, run, export, sensitivity, search):
    app.command()(command)


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; always raises SystemExit."""
    try:
        app(args)
    except (CompileError, OSError) as error:
        print(f"qcomp: error: {error}", file=sys.stderr)
        raise SystemExit(USER_MISTAKE) from None
    except MemoryError as error:
        print(f"qcomp: error: not enough memory: {error}".rstrip(": "), file=sys.stderr)
        raise SystemExit(USER_MISTAKE) from None
