"""`qcomp passes`: what each pass of a compilation did."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcomp.cli.options import Json
from qcomp.errors import CompileError

if TYPE_CHECKING:
    from qcomp.passes.ledger import PassEntry

_COLUMNS = 80
_MEBI = 1 << 20
_TENSORS = 20  # of a pass, that are told
_NOT_A_PASS = "expected a name or a number of the table"


def passes(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="That `qcomp compile` wrote, or that of its --dump."),
    ],
    only: Annotated[
        str | None,
        typer.Option("--pass", metavar="NAME", help="All of one pass: events, lines, difference."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what each pass did and declined, and what it moved; --dump measures the latter."""
    entries = read(directory)
    if only is not None:
        entries = chosen(entries, only)
    if as_json:
        plain = [{**dataclasses.asdict(e), "gives": e.gives.value} for e in entries]
        typer.echo(json.dumps(plain, allow_nan=False))
    elif only is None:
        typer.echo(table(entries))
    else:
        typer.echo("\n".join(line for entry in entries for line in details(entry)))


def read(directory: Path) -> Sequence[PassEntry]:
    """Of a saved network, or of a dump; CompileError where there are none."""
    import qcomp
    from qcomp.files import open_regular
    from qcomp.passes.ledger_file import SUFFIX, unpacked

    if not (file := directory / SUFFIX).is_file():
        found = qcomp.load(directory).ledger
        if not found:
            raise CompileError(f"{directory} keeps no passes: an earlier version wrote it")
        return found
    try:
        with open_regular(file) as content:
            return unpacked(content.read())
    except (OSError, ValueError) as error:
        raise CompileError(f"{file} can't be read: {error}") from error


def chosen(entries: Sequence[PassEntry], only: str) -> Sequence[PassEntry]:
    """Those of a name, or the one of a number."""
    found = [e for n, e in enumerate(entries, 1) if only in (e.name, str(n))]
    if not found:
        names = ", ".join(dict.fromkeys(e.name for e in entries))
        raise CompileError(f"no pass {only}: {_NOT_A_PASS}: {names}")
    return found


def table(entries: Sequence[PassEntry]) -> str:
    """A row for each pass."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from qcomp.passes.events import EventKind

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("pass", no_wrap=True)
    for name in ("did", "left", "lines", "moved by", "dB", "s", "MiB"):
        shown.add_column(name, justify="right", no_wrap=True)
    for n, entry in enumerate(entries, 1):
        moved, db = entry.number("difference"), entry.number("sqnr_db")
        shown.add_row(
            f"{n:2} {entry.name}",
            str(entry.count(EventKind.DID)),
            str(entry.count(EventKind.SKIPPED)),
            str(len(entry.diff)),
            "" if moved is None else f"{moved:.1e}",
            "" if db is None else f"{db:.1f}",
            "" if entry.seconds is None else f"{entry.seconds:.2f}",
            "" if entry.peak_bytes is None else f"{entry.peak_bytes / _MEBI:.0f}",
        )
    text = io.StringIO()
    Console(file=text, width=_COLUMNS, color_system=None).print(shown, highlight=False)
    return "\n".join(row.rstrip() for row in text.getvalue().splitlines())


def details(entry: PassEntry) -> list[str]:
    """Events, each with the line of what it is of, and the difference."""
    lines = [f"{entry.name}: form {entry.gives.value}, {entry.ops} ops"]
    for event in entry.events:
        lines.append(f"  {event.kind:4} {event.text}")
        if event.line:
            lines.append(f"       {event.line}")
    if entry.tensors:
        lines.append(f"  {len(entry.tensors)} tensors are nearer or farther now, the farthest:")
        lines += [f"  {db:6.1f} dB %{name}" for name, db in entry.worst(_TENSORS)]
    return [*lines, *(f"  {line}" for line in entry.diff)]
