"""Overrides that speak of nothing in a network are mistakes, and are told as such."""

from __future__ import annotations

import difflib

from qcomp.config import QuantizationConfig
from qcomp.errors import RecipeError
from qcomp.ir.graph import Graph


def check_overrides(graph: Graph, config: QuantizationConfig) -> None:
    """RecipeError for each override that matches no layer, tensor or operator of a FLOAT graph."""
    names: list[tuple[str, str | None]] = [(id, None) for id in graph.inputs.values()]
    names += [(op.id, op.mnemonic) for op in graph.ops()]
    problems = []
    for key in config.unmatched(names):
        near = difflib.get_close_matches(key, [id for id, _ in names], n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        problems.append(f"overrides: {key!r} matches no layer, tensor or operator{hint}")
    if problems:
        raise RecipeError("\n".join(problems))
