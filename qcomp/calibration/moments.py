"""Per-channel moments of activations, measured on samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qcomp.calibration.masks import Masks
from qcomp.calibration.statistics import float_activations, with_all_results
from qcomp.errors import CalibrationError
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.moments import Moments, RunningMoments

SAMPLES = 16  # are enough to equalize by


def measured_moments(
    graph: Graph, samples: Iterable[Mapping[str, Array]]
) -> dict[TensorId, Moments]:
    """Moments of all f32 activations of a FLOAT graph; `samples` are its inputs by public name.

    CalibrationError where an activation is not finite.
    """
    running = {id: RunningMoments() for id in float_activations(graph)}
    session, masks = FloatSession(with_all_results(graph)), Masks(graph)
    for number, sample in enumerate(samples):
        values = {id: sample[name] for name, id in graph.inputs.items()}
        values = masks.counted(values | session.run(values))
        for id, one in running.items():
            try:
                one.update(values[id])
            except ValueError as error:
                where = f"%{id} in calibration run {number}"
                raise CalibrationError(f"{where}: {error}; expected finite activations") from error
    return {id: one.moments() for id, one in running.items()}
