"""What the whole float network makes of the samples, against what it was trained to do.

Batch normalisations know mean and deviation of what they read in training, so each of them is
asked. A classifier that answers the same to nearly all samples does not see what it was trained on,
or sees one class only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from qcomp.accuracy.decisions import scores_of_classes
from qcomp.calibration.samples import Run
from qcomp.execute.session import FloatSession
from qcomp.findings.record import Finding, Kind
from qcomp.ir.graph import Graph
from qcomp.ir.ops import BatchNorm
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import Array, TensorId

_UNLIKE = 1.18  # times, on average; measured: 1.03 to 1.08 with the right inputs, 1.23 else
_LEAST_NORMS = 4
_LEAST_SAMPLES = 12
_SAME = 0.75  # of the samples; measured: below 0.4 with the right inputs
_ALIVE = 1e-3  # deviation in training, below which a channel says nothing

_AS_TRAINED = "give --calibration inputs as in training: scaled, laid out and of the same kind"


def behaviour(
    graph: Graph, runs: Sequence[Run], batch: int, *, scale_is_told: bool
) -> Iterator[Finding]:
    """Of the graph as imported, on samples that differ, `batch` in each run.

    Where the scale was told of already, what follows from it is not.
    """
    if len(runs) * batch < _LEAST_SAMPLES:
        return
    norms = [] if scale_is_told else [op for op in graph.ops() if isinstance(op, BatchNorm)]
    scored = scores_of_classes(graph)
    output = None if scored is None else graph.outputs[scored]
    norms = norms if len(norms) >= _LEAST_NORMS else []
    if not norms and output is None:
        return
    wanted = list(dict.fromkeys([*(op.x for op in norms), *([output] if output else [])]))
    session = FloatSession(with_outputs(graph, wanted))
    sums = {op.x: Sums() for op in norms}
    answers: list[int] = []
    for run in runs:
        values = session.run({id: run[name] for name, id in graph.inputs.items()})
        for id, sum_ in sums.items():
            sum_.add(values[id])
        if output is not None:
            answers += _answers(values[output])
    told = list(_unlike_training(graph, norms, sums))
    yield from told
    if output is not None and not told:
        yield from _one_answer(answers, graph.type(output).shape[-1])


class Sums:
    """Mean and deviation [C] of a tensor's channels, run by run."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Array = np.zeros(())
        self.second: Array = np.zeros(())

    def add(self, value: Array) -> None:
        rows = value.reshape(-1, value.shape[-1]).astype(np.float64)
        self.count += len(rows)
        self.first = self.first + rows.sum(axis=0)
        self.second = self.second + (rows**2).sum(axis=0)

    def std(self) -> Array:
        mean = self.first / self.count
        return np.asarray(np.sqrt(np.maximum(self.second / self.count - mean**2, 0.0)))


def _unlike_training(
    graph: Graph, norms: Sequence[BatchNorm], sums: dict[TensorId, Sums]
) -> Iterator[Finding]:
    """By how much the deviations are off, on average over the layers, up or down."""
    off = []
    for op in norms:
        trained = np.sqrt(np.maximum(graph.data(op.var), 0.0) + op.eps)
        std = sums[op.x].std()
        alive = (trained > _ALIVE) & (std > 0.0)
        if alive.any():
            off.append(abs(math.log(float(np.median(std[alive] / trained[alive])))))
    factor = math.exp(sum(off) / len(off)) if off else 1.0
    if factor >= _UNLIKE:
        text = (
            f"what its {len(off)} batch normalisations read deviates {factor:.2f} times as much, "
            "or as little, as in training, on average"
        )
        yield Finding(Kind.UNLIKE_TRAINING, graph.name, factor, text, _AS_TRAINED)


def _one_answer(answers: Sequence[int], classes: int) -> Iterator[Finding]:
    ((answer, count),) = Counter(answers).most_common(1)
    if count >= _SAME * len(answers):
        text = f"{count} of {len(answers)} samples get the same answer, {answer} of {classes}"
        help = f"{_AS_TRAINED}, and of all classes"
        yield Finding(Kind.ONE_ANSWER, "calibration data", count / len(answers), text, help)


def _answers(scores: Array) -> list[int]:
    return [int(answer) for answer in scores.reshape(-1, scores.shape[-1]).argmax(axis=1)]
