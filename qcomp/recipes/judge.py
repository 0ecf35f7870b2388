"""What trials of configurations are judged by: the noise that quantization puts on the outputs.

A trial simulates the QDQ form with ONNX Runtime on a few samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.statistics import float_outputs
from qcomp.config import QuantizationConfig
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.qdq import output_names, read_rounded, round_trip
from qcomp.quant.noise import Noise
from qcomp.quant.qparams import QParams
from qcomp.quantizer import Quantizer

F64 = NDArray[np.float64]
Feed = Mapping[str, NDArray[Any]]


@dataclass
class Judge:
    """Compares outputs with those of the float network, which it computes once."""

    quantizer: Quantizer
    _reference: list[F64] = field(default_factory=list)

    def tried(
        self,
        config: QuantizationConfig,
        samples: Sequence[Feed],
        fitted_to: Sequence[Feed] | None = None,
    ) -> Judgement:
        """Of a configuration, on samples; see `Quantizer.quantized` for `fitted_to`."""
        return self.noise(self.quantizer.quantized(config, fitted_to), samples)

    def noise(self, graph: Graph, samples: Sequence[Feed]) -> Judgement:
        """Of a QDQ graph's float outputs against the float network."""
        session = FloatSession(graph)
        return self.judged([session.run(sample) for sample in samples], samples)

    def judged(self, answers: Sequence[Feed], samples: Sequence[Feed]) -> Judgement:
        """Of float outputs by name, for each sample."""
        floats = float_outputs(self.quantizer.normalized)
        got = [np.concatenate([a[n].astype(np.float64).ravel() for n in floats]) for a in answers]
        pairs = zip(self._answers(samples), got, strict=True)
        return Judgement(tuple(Noise().plus([a], [b]) for a, b in pairs))

    def _answers(self, samples: Sequence[Feed]) -> list[F64]:
        if len(self._reference) < len(samples):
            self._reference = _outputs(self.quantizer.normalized, samples)
        return self._reference[: len(samples)]


@dataclass(frozen=True)
class Judgement:
    """The noise of each sample."""

    runs: tuple[Noise, ...]

    @property
    def total(self) -> Noise:
        return sum(self.runs, Noise())

    @property
    def db(self) -> float:
        """The signal to noise ratio over all samples."""
        return self.total.db

    def improves(self, other: Judgement, least: float) -> bool:
        """Whether it is better by `least` dB, and better on each half of the samples.

        What helps on one half only is taken for chance.
        """
        if self.db < other.db + least:
            return False
        return all(
            sum(self.runs[half], Noise()).noise < sum(other.runs[half], Noise()).noise
            for half in (slice(0, None, 2), slice(1, None, 2))
            if self.runs[half]
        )


def with_quantized(graph: Graph, qparams: Mapping[TensorId, QParams]) -> Graph:
    """A float graph in which only these activations are rounded."""
    result = graph.clone()
    for id, q in qparams.items():
        readers, outputs = result.consumers(id), output_names(result, id)
        read_rounded(result, id, round_trip(result, id, id, q), readers, outputs)
    return result


def _outputs(graph: Graph, samples: Sequence[Feed]) -> list[F64]:
    """All float outputs of each sample, one after the other."""
    session = FloatSession(graph)
    floats = float_outputs(graph)
    answers = []
    for sample in samples:
        results = session.run(sample)
        answers.append(np.concatenate([results[n].astype(np.float64).ravel() for n in floats]))
    return answers
