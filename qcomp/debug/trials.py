"""Trials of a bisection: a model under a configuration, on calibration data, measured on runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import Run, Samples
from qcomp.config import QuantizationConfig
from qcomp.evaluation.scores import Answers
from qcomp.execute.session import FloatSession
from qcomp.ir.form import Form
from qcomp.ir.given import GivenIntegers
from qcomp.ir.graph import Graph
from qcomp.quantizer import Quantizer


def answers_of(graph: Graph, runs: Sequence[Run]) -> list[Answers]:
    """The outputs of a float or QDQ graph by name."""
    session = FloatSession(graph)
    return [session.run(run) for run in runs]


@dataclass(eq=False)
class Trials:
    """What follows from a model's graph and calibration runs.

    inputs: their interval without data. integers, rounds: as the quantizer has them.

    Stages that trials have in common are gone through once. Layers are fitted to the data as in a
    compilation.
    """

    graph: Graph
    form: Form
    calibration: Sequence[Run] | None
    inputs: tuple[float, float]
    integers: Mapping[str, GivenIntegers]
    rounds: bool
    _whole: Quantizer | None = None

    def quantizer(self, without: Collection[str] = ()) -> Quantizer:
        """With passes left out; that with all of them is kept."""
        if not without and self._whole is not None:
            return self._whole
        made = Quantizer(
            self.graph,
            self.form,
            self._evidence(),
            integers=self.integers,
            rounds=self.rounds,
            without=without,
        )
        if not without:
            self._whole = made
        return made

    def quantized(self, config: QuantizationConfig, without: Collection[str] = ()) -> Graph:
        """The QDQ graph, as a compilation lowers it."""
        quantizer = self.quantizer(without)
        return quantizer.quantized(config, quantizer.evidence.data)

    def on(self, calibration: Sequence[Run]) -> Trials:
        """The same model with other calibration runs."""
        return replace(self, calibration=calibration, _whole=None)

    def _evidence(self) -> Evidence:
        if self.calibration is None:
            return Evidence(None, self.inputs)
        types = {name: self.graph.type(id) for name, id in self.graph.inputs.items()}
        return Evidence(Samples(list(self.calibration), types), self.inputs)
