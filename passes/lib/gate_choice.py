"""Which gates are worth opening: those that spare most of the noise.

An opened gate (gates.py) costs a product per value. Gates whose channels must have the same factors
are one unit. All are opened first; a unit stays open if the terms of the noise that its factors
move become less by a share of all noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.channel_classes import ChannelClasses, channel_classes
from qcomp.passes.lib.gates import gates
from qcomp.passes.lib.quantization_noise import NoiseProblem, Precision, least_noise_factors
from qcomp.quant.moments import Moments

_WORTHWHILE = 0.02  # of all noise


def gates_worth_opening(
    graph: Graph,
    moments: Mapping[TensorId, Moments],
    precision: Precision,
    largest: float,
    log: PassLog,
) -> frozenset[TensorId]:
    """Their results."""
    candidates = [op.output for op in gates(graph)]
    if not candidates:
        return frozenset()
    classes = channel_classes(graph, candidates)
    problem = NoiseProblem.of(graph, classes, moments, precision)
    found = least_noise_factors(problem, largest=largest)
    before = problem.noise_by_class(np.zeros(classes.count))
    spared = before - problem.noise_by_class(np.log(found.factors))
    chosen: list[TensorId] = []
    for unit in _units(classes, candidates):
        touched = np.unique(np.concatenate([classes.of[t] for t in unit]))
        share = float(spared[touched[touched > 0]].sum()) / max(float(before.sum()), 1e-30)
        told = f"{', '.join(unit)}: {100 * share:.1f} % less noise"
        if share >= _WORTHWHILE:
            chosen += unit
            log.note(f"gates to open: {told}", share=share)
        else:
            log.skipped(unit[0], f"not worth opening: {told}")
    return frozenset(chosen)


def _units(classes: ChannelClasses, candidates: list[TensorId]) -> list[list[TensorId]]:
    """Gates that share a class that can be scaled."""
    ties: nx.Graph[TensorId | int] = nx.Graph()
    for t in candidates:
        ties.add_edges_from((t, int(k)) for k in np.unique(classes.of[t]) if k > 0)
    known = set(candidates)
    parts = (known.intersection(part) for part in nx.connected_components(ties))
    return [sorted(part, key=candidates.index) for part in parts]
