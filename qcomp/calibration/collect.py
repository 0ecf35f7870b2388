"""Statistics from data: run the float graph on every sample and observe every activation.

Each run's activations are summarised at once (qcomp/quant/distribution.py), so memory does not
grow with the samples, and any estimator can be asked afterwards. Extremes are those of all values;
histograms count a share of large activations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qcomp.calibration.batch_norm import ranges_from_batch_norm
from qcomp.calibration.data import Source
from qcomp.calibration.masks import Masks
from qcomp.calibration.reaches import Reaches
from qcomp.calibration.sampled import SampledMeans
from qcomp.calibration.samples import Samples, samples_of
from qcomp.calibration.statistics import (
    HEADROOM,
    Statistics,
    float_activations,
    mnemonics,
    weighted_operands,
    with_all_results,
)
from qcomp.errors import CalibrationError
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Reshape, Softmax
from qcomp.ir.tensor import Array, DType, TensorId
from qcomp.ir.transformer import is_transformer
from qcomp.ir.widths import of_16_bits
from qcomp.progress import tracked
from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.rows import RowSample

KEPT = 8
COUNTED = 1 << 14
"""Values of an activation in one run that its histogram counts: all of an image's would take longer
to count than to compute, and their shares of the whole are the same. Of a transformer all count: a
few values are hundreds of times as large as the others."""


def collect(graph: Graph, source: Source | Samples, *, progress: bool = False) -> Statistics:
    """Observe a FLOAT graph on calibration data; `progress` shows a bar on stderr."""
    rows = logits(graph)
    counted = None if is_transformer(graph) else COUNTED
    distributions = {
        id: Distribution(counted, rows=RowSample() if id in rows else None)
        for id in float_activations(graph)
    }
    data = source if isinstance(source, Samples) else samples_of(graph, source)
    sampled = SampledMeans.of(graph, data.count)
    runs: Iterable[dict[str, Array]] = tracked(data, "calibrating", data.expected, shown=progress)
    session, masks, reaches = FloatSession(with_all_results(graph)), Masks(graph), Reaches.of(graph)
    samples = 0
    kept: list[dict[str, Array]] = []
    for run in runs:
        values = {id: run[name] for name, id in graph.inputs.items()}
        values = masks.counted(values | session.run(values))
        for id, distribution in distributions.items():
            _observe(distribution, values[id], f"%{id} in calibration run {samples}")
        sampled.update(samples, values)
        reaches.update(values)
        if len(kept) < KEPT:
            kept.append({name: array.copy() for name, array in run.items()})
        samples += 1
    implied, unimplied = _implied(graph, distributions)
    return Statistics(
        mnemonics=mnemonics(graph),
        distributions=distributions,
        implied=implied,
        unimplied=unimplied,
        channel_means={id: sampled.mean(id, samples) for id in weighted_operands(graph)},
        sampled=sampled,
        reaches={id: HEADROOM * largest for id, largest in reaches.largest.items()},
        samples=samples,
        kept=tuple(kept),
        of_16_bits=of_16_bits(graph),
    )


def _implied(
    graph: Graph, distributions: Mapping[TensorId, Distribution]
) -> tuple[Mapping[TensorId, Range], str]:
    """Ranges by batch-norm statistics from the measured inputs, or why there are none."""
    inputs = {
        name: distributions[id].extremes for name, id in graph.inputs.items() if id in distributions
    }
    try:
        return ranges_from_batch_norm(graph, inputs).implied, ""
    except CalibrationError as error:
        return {}, str(error)


def logits(graph: Graph) -> frozenset[TensorId]:
    """The tensors whose rows are scores of classes.

    Those are what a softmax at an output reads, and outputs [N, classes] that no softmax made; and
    what these are reshaped from, if the last axis stays. Other tensors have no rows to compare.
    """
    found: set[TensorId] = set()
    for id in graph.outputs.values():
        producer, last = graph.producer(id), graph.type(id).rank - 1
        if isinstance(producer, Softmax) and producer.axis == last:
            id = producer.x
        elif isinstance(producer, Softmax) or last != 1:
            continue
        classes = graph.type(id).shape[-1]
        while _has_rows(graph, id, classes):
            found.add(id)
            reshape = graph.producer(id)
            if not isinstance(reshape, Reshape):
                break
            (id,) = reshape.inputs
    return frozenset(found)


def _has_rows(graph: Graph, id: TensorId, classes: int) -> bool:
    type = graph.type(id)
    return type.dtype is DType.F32 and type.rank > 0 and type.shape[-1] == classes > 1


def _observe(distribution: Distribution, value: Array, where: str) -> None:
    try:
        distribution.update(value)
    except ValueError as error:
        raise CalibrationError(f"{where}: {error}; expected finite activations") from error
