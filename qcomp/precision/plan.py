"""Bits for every part, and how they become overrides of a configuration."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from qcomp.config import QuantizationConfig, matches
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.edge_layers import edge_layers
from qcomp.precision.parts import Kind, Part

Plan = Mapping[Part, int]

_FIELDS = {Kind.WEIGHTS: "weight_bits", Kind.ACTIVATION: "activation_bits"}


def configured_bits(graph: Graph, config: QuantizationConfig, part: Part) -> int:
    """What the configuration gives a part; the most where its members differ."""
    members = [config.at(id, mnemonic_of(graph, id)) for id in part.members]
    if part.kind is Kind.ACTIVATION:
        return max(m.decided_activation_bits for m in members)
    return max(members[0].weight_bits, least_bits(graph, config, part))


def least_bits(graph: Graph, config: QuantizationConfig, part: Part) -> int:
    """The fewest that a part may have: the first and the last layer keep more."""
    if part.kind is Kind.ACTIVATION or part.id not in edge_layers(graph):
        return 1
    return config.at(part.id, part.mnemonic).first_last_weight_bits


def with_plan(config: QuantizationConfig, graph: Graph, plan: Plan) -> QuantizationConfig:
    """The configuration with an override for each part that it gives other bits."""
    known = [(t.id, mnemonic_of(graph, t.id)) for t in graph.tensors() if not t.is_constant]
    added: dict[str, dict[str, Any]] = {}
    for part, bits in plan.items():
        field = _FIELDS[part.kind]
        for id in part.members:
            if getattr(config.at(id, mnemonic_of(graph, id)), field) != bits:
                added.setdefault(key_of(id, known), {})[field] = bits
    kept = {key: fields for key, fields in config.overrides.items() if key not in added}
    last = {key: {**config.overrides.get(key, {}), **fields} for key, fields in added.items()}
    return dataclasses.replace(config, overrides={**kept, **last})


def key_of(id: TensorId, known: Iterable[tuple[TensorId, str | None]]) -> str:
    """An override's key that matches this tensor alone: its id, or an expression if that would
    match others.
    """
    if any(other != id and matches(id, other, mnemonic) for other, mnemonic in known):
        return f"(?:{re.escape(id)})"
    return id


def mnemonic_of(graph: Graph, id: TensorId) -> str | None:
    op = graph.producer(id)
    return None if op is None else op.mnemonic
