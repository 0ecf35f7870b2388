"""Whether the first layers give what they gave in training: else the inputs are of another scale.

A batch normalisation knows mean and deviation of what it reads. Where it is folded, biases still
tell the size of what the first layer gives; with images of three channels that is believed where it
is off by far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.samples import Run
from qcomp.execute.session import FloatSession
from qcomp.findings.record import Finding, Kind
from qcomp.ir.graph import Graph
from qcomp.ir.ops import BatchNorm, Weighted
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import DType, TensorId

F64 = NDArray[np.float64]

_OTHER_UNIT = 8.0  # times the deviation of training: no drift of data, another unit
_DISAGREES = 3.0
_SHIFTED = 2.0  # deviations
_FAR_FROM_BIAS = 20.0  # measured: 0.2 to 5.8 with the right inputs, 30 to 500 with 0 to 255
_COLOURS = 3
_BYTE = 255.0
_SAME_WAY = "give --calibration the values that the network was trained on, scaled as then"


Extremes = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """Mean and deviation [C] of a tensor's channels, over samples."""

    mean: F64
    std: F64

    @staticmethod
    def of(graph: Graph, id: TensorId, runs: Sequence[Run]) -> Measured:
        """Of a tensor whose last axis is that of channels."""
        session = FloatSession(with_outputs(graph, [id]))
        names = graph.inputs.items()
        values = [session.run({i: run[name] for name, i in names})[id] for run in runs]
        rows = np.concatenate([v.reshape(-1, v.shape[-1]).astype(np.float64) for v in values])
        return Measured(rows.mean(axis=0), rows.std(axis=0))


def first_layer(graph: Graph, runs: Sequence[Run]) -> Iterator[Finding]:
    """For each input, by what is first behind it and knows training; of the graph as imported."""
    for name, id in graph.inputs.items():
        op = _first(graph, id) if graph.type(id).dtype is DType.F32 else None
        if op is None:
            continue
        extremes = min(float(r[name].min()) for r in runs), max(float(r[name].max()) for r in runs)
        if isinstance(op, BatchNorm):
            measured = Measured.of(graph, op.x, runs)
            yield from _by_batch_norm(graph, op, measured, name, extremes)
        elif _COLOURS in graph.type(id).shape[1:]:
            measured = Measured.of(graph, op.output, runs)
            yield from _by_bias(graph, op, measured, name, extremes)


def _first(graph: Graph, id: TensorId) -> BatchNorm | Weighted | None:
    """The first batch normalisation if at most one layer is before it, or else that layer."""
    reached, layer = {id}, None
    for op in graph.ops():
        if not reached.intersection(op.inputs):
            continue
        if isinstance(op, BatchNorm):
            return op
        if layer is not None and not op.copies_integers:
            return layer
        reached.add(op.output)
        if isinstance(op, Weighted):
            layer, reached = op, {op.output}
    return layer


def _by_batch_norm(
    graph: Graph, op: BatchNorm, measured: Measured, name: str, extremes: Extremes
) -> Iterator[Finding]:
    """Mean and deviation against those of training."""
    trained = np.sqrt(np.maximum(graph.data(op.var), 0.0) + op.eps)
    wider = _middle_ratio(measured.std, trained)
    shift = float(np.median(np.abs(measured.mean - graph.data(op.mean)) / trained))
    if max(wider, 1.0 / wider) >= _OTHER_UNIT:
        yield _other_scale(name, extremes, wider, f"batch normalisation {op.id} has")
    elif max(wider, 1.0 / wider) >= _DISAGREES or shift >= _SHIFTED:
        text = (
            f"what batch normalisation {op.id} reads deviates {wider:.2g} times as much as in "
            f"training, and its mean is {shift:.1f} deviations off"
        )
        number = max(wider, 1.0 / wider, shift)
        yield Finding(Kind.FIRST_LAYER, name, number, text, _SAME_WAY)


def _by_bias(
    graph: Graph, op: Weighted, measured: Measured, name: str, extremes: Extremes
) -> Iterator[Finding]:
    """The deviation of results against the biases that are added to them."""
    bias = np.abs(graph.data(op.bias))
    if not (bias > 0.0).mean() > 0.5:
        return
    wider, width = _middle_ratio(measured.std, bias), extremes[1] - extremes[0]
    is_too_large = wider >= _FAR_FROM_BIAS and width > _BYTE / 4.0
    is_too_small = wider <= 1.0 / _FAR_FROM_BIAS and width <= 2.0
    if is_too_large or is_too_small:
        yield _other_scale(name, extremes, wider, f"the biases of the first layer, {op.id}, have")


def _other_scale(name: str, extremes: Extremes, wider: float, expected: str) -> Finding:
    low, high = extremes
    is_byte = low >= 0.0 and _BYTE / 4.0 < high <= _BYTE
    looks = "values look like 0..255" if is_byte else f"values are {low:.3g} to {high:.3g}"
    text = f"{looks}, and make results {wider:.3g} times as large as {expected} it"
    return Finding(Kind.INPUT_SCALE, name, wider, text, _SAME_WAY)


def _middle_ratio(measured: F64, expected: NDArray[np.floating]) -> float:
    """The median of the ratio over channels that are alive in both."""
    alive = (measured > 0.0) & (expected > 0.0)
    return float(np.median(measured[alive] / expected[alive])) if alive.any() else 1.0
