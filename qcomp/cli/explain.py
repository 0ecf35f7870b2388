"""`qcomp explain`: one tensor's life in words."""

from __future__ import annotations

from typing import Annotated

import typer

from qcomp.cli.options import Directory

_INDENT = 12  # columns of the headings


def explain(
    directory: Directory,
    tensor: Annotated[
        str, typer.Argument(metavar="TENSOR", help="An id of the graph, or a name in the model.")
    ],
) -> None:
    """Tell a tensor's life, from the model's node to the kernel that computes it."""
    from qcomp.cli.facts import width, wrapped
    from qcomp.debug.explain import explain as told

    columns = width()
    for heading, sentences in told(directory, tensor):
        for n, sentence in enumerate(sentences):
            typer.echo(wrapped(f"  {heading if n == 0 else '':<10}{sentence}", columns, _INDENT))
