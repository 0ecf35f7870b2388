"""Per-channel moments of activations, measured on samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qcomp.calibration.statistics import float_activations, with_all_results
from qcomp.export.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.moments import Moments, RunningMoments


def measured_moments(
    graph: Graph, samples: Iterable[Mapping[str, Array]]
) -> dict[TensorId, Moments]:
    """Of all f32 activations of a FLOAT graph; `samples` are its inputs by public name."""
    running = {id: RunningMoments() for id in float_activations(graph)}
    session = FloatSession(with_all_results(graph))
    for sample in samples:
        values = {id: sample[name] for name, id in graph.inputs.items()}
        values |= session.run(values)
        for id, one in running.items():
            one.update(values[id])
    return {id: one.moments() for id, one in running.items()}
