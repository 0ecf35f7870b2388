"""What a trial is measured by: a number that is larger where a network is better."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.errors import CalibrationError, did_you_mean
from qcomp.evaluation.labelled import Labelled
from qcomp.evaluation.labels import Classes
from qcomp.evaluation.scores import Answers, Ranking, classes_of, split
from qcomp.ir.tensor import Array
from qcomp.quant.noise import Noise

SQNR, TOP1, AGREEMENT = "sqnr", "top1", "agreement"
NAMES = (SQNR, TOP1, AGREEMENT)
_LEAST_DB, _LEAST_SHARE = 1.0, 0.01
_LEAST_SAMPLES = 2  # that a share must gain: one is chance


@dataclass(frozen=True)
class Metric:
    """A number of the answers to all runs.

    unit: behind the number. least: a gain that counts.
    needs_labels: whether it tells of the float network, too, which else is the reference.
    best: what the reference has; None where that is infinite, or not known yet.
    """

    name: str
    unit: str
    least: float
    needs_labels: bool
    of: Callable[[Sequence[Answers]], float]
    best: float | None = None


def metric_of(
    name: str, reference: Sequence[Answers], batch: int, data: Labelled, classes: Classes
) -> Metric:
    """A metric by its name, or of a Python file that defines `metric(outputs, labels)`.

    reference: the float network's answers to the same runs. CalibrationError where the data does
    not have what it takes.
    """
    if name.endswith(".py"):
        return _of_program(Path(name), data)
    if name == SQNR:
        return Metric(SQNR, " dB", _LEAST_DB, False, lambda answers: _sqnr_db(reference, answers))
    if name not in NAMES:
        raise CalibrationError(
            f"metric {name!r}: expected {', '.join(NAMES)}, exact or a Python file"
            f"{did_you_mean(name, NAMES)}"
        )
    count = len(reference) * batch
    best = _classes(reference, batch, name)
    least = max(_LEAST_SHARE, _LEAST_SAMPLES / count)
    if name == AGREEMENT:
        measured = lambda answers: _share(answers, batch, name, best)  # noqa: E731
        return Metric(name, "", least, needs_labels=False, of=measured, best=1.0)
    if len(data.labels) < count:
        raise CalibrationError(
            f"metric top1: {len(data.labels)} labels for {count} samples; give --data with labels"
        )
    first = next(iter(reference[0].values()))
    right = classes.outputs(data.labels[:count], first.size // batch)
    return Metric(name, "", least, True, lambda answers: _share(answers, batch, name, right))


def _sqnr_db(reference: Sequence[Answers], answers: Sequence[Answers]) -> float:
    """Of the output that has the least."""
    names = [name for name, value in reference[0].items() if value.dtype.kind == "f"]
    return min(
        Noise().plus((run[name] for run in reference), (run[name] for run in answers)).db
        for name in names
    )


def _ranking(answers: Sequence[Answers], batch: int, name: str) -> Ranking:
    ranking = Ranking()
    for run in answers:
        for sample in split(run, batch):
            first = next(iter(sample.values()))
            if classes_of(first) is None:
                raise CalibrationError(
                    f"metric {name}: the first output has shape {list(first.shape)}; expected a "
                    "score for each class"
                )
            ranking.add(first)
    return ranking


def _classes(answers: Sequence[Answers], batch: int, name: str) -> list[int]:
    return [int(places[0]) for places in _ranking(answers, batch, name).places]


def _share(answers: Sequence[Answers], batch: int, name: str, right: Sequence[int]) -> float:
    """Of samples whose largest output is the one that is right."""
    return _ranking(answers, batch, name).right(right, 1)


def _of_program(path: Path, data: Labelled) -> Metric:
    """The user's own; of several numbers the first."""
    metric = data.metric
    if metric is None:
        if not path.is_file():
            raise CalibrationError(f"{path}: does not exist")
        metric = runpy.run_path(str(path)).get("metric")
    if not callable(metric):
        raise CalibrationError(f"{path}: defines no `metric`; expected metric(outputs, labels)")

    def measured(answers: Sequence[Answers]) -> float:
        joined = {name: np.concatenate([_row(run[name]) for run in answers]) for name in answers[0]}
        outputs = next(iter(joined.values())) if len(joined) == 1 else joined
        said = metric(outputs, list(data.labels))
        return float(next(iter(said.values())) if isinstance(said, Mapping) else said)

    return Metric(path.name, "", _LEAST_SHARE, True, measured)


def _row(value: Array) -> Any:
    return value if value.ndim else value.reshape(1)
