"""Per-channel moments of activations, measured on samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from qcomp.calibration.masks import Masks
from qcomp.calibration.statistics import float_activations, with_all_results
from qcomp.errors import CalibrationError
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.moments import Moments, RunningMoments

SAMPLES = 16  # are enough to equalize by


def measured_moments(
    graph: Graph, samples: Iterable[Mapping[str, Array]]
) -> dict[TensorId, Moments]:
    """Moments of all f32 activations of a FLOAT graph; `samples` are its inputs by public name.

    CalibrationError where an activation is not finite.
    """
    session, masks = FloatSession(with_all_results(graph)), Masks(graph)
    runs = (masks.counted(values) for values in _run(graph, session, samples))
    return _moments(float_activations(graph), runs)


def moments_of(
    graph: Graph, ids: Collection[TensorId], samples: Iterable[Mapping[str, Array]]
) -> dict[TensorId, Moments]:
    """Moments of some of them; nothing else is computed than what these need."""
    results = [id for id in ids if graph.producer(id) is not None]
    session = FloatSession(with_outputs(graph, results))
    return _moments(ids, _run(graph, session, samples))


def _run(
    graph: Graph, session: FloatSession, samples: Iterable[Mapping[str, Array]]
) -> Iterator[dict[TensorId, Array]]:
    """Values of the inputs and of what the session returns."""
    for sample in samples:
        values = {id: sample[name] for name, id in graph.inputs.items()}
        yield values | session.run(values)


def _moments(
    ids: Iterable[TensorId], runs: Iterable[Mapping[TensorId, Array]]
) -> dict[TensorId, Moments]:
    running = {id: RunningMoments() for id in ids}
    for number, values in enumerate(runs):
        for id, one in running.items():
            try:
                one.update(values[id])
            except ValueError as error:
                where = f"%{id} in calibration run {number}"
                raise CalibrationError(f"{where}: {error}; expected finite activations") from error
    return {id: one.moments() for id, one in running.items()}
