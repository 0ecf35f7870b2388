"""What overrides mean for a network: mistakes are told, and ranges reach all that share a scale."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

from qcomp.config import QuantizationConfig
from qcomp.errors import RecipeError
from qcomp.ir.graph import Graph
from qcomp.passes.lib.same_scale import scale_groups


def check_overrides(graphs: Sequence[Graph], config: QuantizationConfig) -> None:
    """RecipeError for each override that matches no layer, tensor or operator of FLOAT graphs."""
    names: list[tuple[str, str | None]] = []
    for graph in graphs:
        names += [(id, None) for id in graph.inputs.values()]
        names += [(op.id, op.mnemonic) for op in graph.ops()]
    problems = []
    for key in config.unmatched(names):
        near = difflib.get_close_matches(key, [id for id, _ in names], n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        problems.append(f"overrides: {key!r} matches no layer, tensor or operator{hint}")
    if problems:
        raise RecipeError("\n".join(problems))


def spread_ranges(graph: Graph, config: QuantizationConfig) -> QuantizationConfig:
    """The range that is chosen for one tensor is that of all that share its scale.

    The transpose that an input in NCHW goes through, say, is nothing the caller has heard of. Where
    several members have ranges of their own, those are united, as always.
    """
    if not config.overrides:
        return config
    spread = {key: dict(fields) for key, fields in config.overrides.items()}
    for members in scale_groups(graph):
        own = {t: config.at(t, _mnemonic(graph, t)).range for t in members}
        chosen = [r for r in own.values() if r != config.range]
        for t in members if chosen else ():
            if own[t] == config.range:
                spread.setdefault(t, {})["range"] = chosen[0]
    return dataclasses.replace(config, overrides=spread)


def _mnemonic(graph: Graph, id: str) -> str | None:
    producer = graph.producer(id)
    return None if producer is None else producer.mnemonic
