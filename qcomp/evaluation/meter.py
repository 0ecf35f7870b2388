"""The samples of an evaluation, one at a time, and what is summed up of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcomp.accuracy.parts import parts_of
from qcomp.calibration.runs import Runs
from qcomp.calibration.samples import Run, Samples
from qcomp.errors import CalibrationError
from qcomp.evaluation.labelled import Labelled, Metric
from qcomp.evaluation.labels import Classes
from qcomp.evaluation.network import Network
from qcomp.evaluation.record import Evaluation, Scores, WorstSample
from qcomp.evaluation.scores import TOP, Answers, Comparison, Ranking, classes_of, split
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph

_FOR_PARTS = 8  # samples that tell the parts of outputs apart, as in a compilation


@dataclass(eq=False)
class Answering:
    """One network, and what is kept of its answers."""

    run: Callable[[Run], Answers]
    ranking: Ranking = field(default_factory=Ranking)
    kept: list[Answers] = field(default_factory=list)

    def scores(self, labels: Sequence[int], metric: Metric | None, given: Sequence[Any]) -> Scores:
        """Shares of right classes where the network scores classes, and the caller's metric."""
        is_classifier = bool(labels) and bool(self.ranking.places)
        return Scores(
            top1=self.ranking.right(labels, 1) if is_classifier else None,
            top5=self.ranking.right(labels, TOP) if is_classifier else None,
            metric=_measured(metric, self.kept, given),
        )


@dataclass(eq=False)
class Meter:
    """Sums over the samples of one network or of both.

    keeps_outputs: of all samples, for a metric. most_named: of the worst samples.
    """

    graph: Graph | None
    net: Network | None
    runs: Samples
    keeps_outputs: bool = False
    most_named: int = 5
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batch = Runs(self.runs.inputs).batch
        self.networks: dict[str, Answering] = {}
        if self.graph is not None:
            self.networks["float"] = Answering(FloatSession(self.graph).run)
        if self.net is not None:
            self.networks["integer"] = Answering(self._answering(self.net))
        self.count = 0
        self.classes: int | None = None
        self.comparison: Comparison | None = None
        self._waiting: list[tuple[Answers, Answers]] = []

    def _answering(self, net: Network) -> Callable[[Run], Answers]:
        """The generated code, or its specification where this machine can't run it."""
        if net.lacking is not None:
            self.notes.append(f"the specification answers: {net.lacking}")
            return net.specification
        return net

    def add(self, run: Run) -> None:
        """One run of the networks."""
        answers = {n: list(split(a.run(run), self.batch)) for n, a in self.networks.items()}
        for sample in zip(*answers.values(), strict=True):
            self._add_sample(dict(zip(answers, sample, strict=True)))

    def _add_sample(self, answers: Mapping[str, Answers]) -> None:
        for name, answer in answers.items():
            network, first = self.networks[name], next(iter(answer.values()))
            self.classes = classes_of(first)
            if self.classes is not None:
                network.ranking.add(first)
            if self.keeps_outputs:
                network.kept.append(answer)
        self.count += 1
        if len(answers) == 2:
            self._compare(answers["float"], answers["integer"])

    def _compare(self, reference: Answers, answer: Answers) -> None:
        """Parts of outputs are told apart by the first samples, which wait for that."""
        if self.comparison is not None:
            self.comparison.add(self.count - 1, reference, answer)
            return
        self._waiting.append((reference, answer))
        if len(self._waiting) == _FOR_PARTS:
            self._begin()

    def _begin(self) -> None:
        assert self.graph is not None
        assert self.net is not None
        real = [output.name for output in self.net.outputs if output.is_quantized]
        parts = parts_of(self.graph, [reference for reference, _ in self._waiting])
        self.comparison = Comparison([p for p in parts if p.output in real], most=self.most_named)
        for place, both in enumerate(self._waiting):
            self.comparison.add(place, *both)

    def result(self, data: Labelled, classes: Classes, metric: Metric | None) -> Evaluation:
        """What was found on all samples."""
        if self._waiting and self.comparison is None:
            self._begin()
        given = data.labels[: self.count]
        if given and len(given) != self.count:
            raise CalibrationError(f"{len(given)} labels for {self.count} samples")
        right = self._right(given, classes, metric)
        scores = {n: a.scores(right, metric, given) for n, a in self.networks.items()}
        float_, integer = (self.networks.get(name) for name in ("float", "integer"))
        agreement = None
        if float_ and integer and self.classes is not None:
            first = [top[0] for top in float_.ranking.places]
            agreement = integer.ranking.right(first, 1)
        return Evaluation(
            name=self.net.name if self.net is not None else self.graph.name if self.graph else "",
            samples=self.count,
            of_float=scores.get("float"),
            of_integer=scores.get("integer"),
            agreement=agreement,
            outputs=() if self.comparison is None else self.comparison.outputs,
            worst=tuple(self._worst(data, right)),
            notes=(*self.runs.notes, *self.notes),
        )

    def _right(
        self, given: Sequence[Any], classes: Classes, metric: Metric | None
    ) -> Sequence[int]:
        """The outputs that labels stand for; none without labels, or where a metric reads them."""
        if not given:
            self.notes.append("no labels: outputs are compared with those of the other network")
            return ()
        if self.classes is None:
            if metric is None:
                raise CalibrationError(
                    "labels, but the first output is no list of scores; give a metric"
                )
            return ()
        try:
            return classes.outputs(given, self.classes)
        except CalibrationError:
            if metric is None:
                raise
            return ()

    def _worst(self, data: Labelled, right: Sequence[int]) -> Iterator[WorstSample]:
        for place, ratio in () if self.comparison is None else self.comparison.worst():
            tops = {
                n: a.ranking.places[place][0] if self.classes is not None else None
                for n, a in self.networks.items()
            }
            label = right[place] if right else None
            name = data.name(place)
            yield WorstSample(name, ratio, label, tops.get("float"), tops.get("integer"))


def _measured(
    metric: Metric | None, answers: Sequence[Answers], labels: Sequence[Any]
) -> Mapping[str, float]:
    """What the caller's metric says of all answers."""
    if metric is None:
        return {}
    joined = {name: np.concatenate([_row(a[name]) for a in answers]) for name in answers[0]}
    outputs = next(iter(joined.values())) if len(joined) == 1 else joined
    said = metric(outputs, list(labels))
    numbers = said if isinstance(said, Mapping) else {"metric": said}
    return {str(name): float(value) for name, value in numbers.items()}


def _row(value: Any) -> Any:
    return value if value.ndim else value.reshape(1)
