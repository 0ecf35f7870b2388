"""`qcomp diff`: what differs between two compilations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcomp.cli.options import Json

if TYPE_CHECKING:
    from qcomp.debug.change import Change
    from qcomp.debug.difference import NetworkDifference

DIFFERENT = 1
_MOST = 20  # changes of a kind that are printed


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A directory of `qcomp compile`.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    every: Annotated[
        bool, typer.Option("--all", help=f"Print all changes, not the first {_MOST} of a kind.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two compilations by settings, tensors, kernels and memory; exit status 1 if any."""
    from qcomp.debug.difference import differences

    found = differences(a, b)
    typer.echo(json.dumps(found.json()) if as_json else told(found, None if every else _MOST))
    if not found.same:
        raise typer.Exit(DIFFERENT)


def told(found: NetworkDifference, most: int | None) -> str:
    """The report for people: settings, tensors with the first of them named, what follows."""
    if found.same:
        same = "no difference in settings, ops, scales and numbers"
        return "\n".join([same, *_follows(found, most)])
    lines = [*_lines("settings", found.settings, most), *_lines("tensors", found.tensors, most)]
    if not found.tensors:
        lines.append("the integer networks are the same")
    elif found.first is not None:
        lines.append(f"first tensor that differs: %{found.first.where}")
    return "\n".join([*lines, *_follows(found, most)])


def _follows(found: NetworkDifference, most: int | None) -> list[str]:
    kinds = {"kernels": found.kernels, "memory": found.memory, "figures": found.figures}
    return [line for kind, changes in kinds.items() for line in _lines(kind, changes, most)]


def _lines(kind: str, changes: Sequence[Change], most: int | None) -> list[str]:
    if not changes:
        return []
    shown = changes[:most]
    lines = [f"{kind}: {len(changes)} differ", *(f"  {change}" for change in shown)]
    more = len(changes) - len(shown)
    return [*lines, f"  and {more} more; --all prints them"] if more else lines
