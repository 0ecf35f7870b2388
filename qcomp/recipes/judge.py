"""What trials of configurations are judged by: the noise that quantization puts on the outputs.

A trial simulates the QDQ form with ONNX Runtime on a few samples.

Where outputs have several parts, the noise of each is weighed: it counts in units of what 16 bits
leave of it, or of a tenth of a thousandth of the part's power where 16 bits leave less. So the part
that falls short most of what it could be decides, and a part that is good enough is not polished at
the cost of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from qcomp.accuracy.measure import noise_of
from qcomp.accuracy.parts import Answers, Part, parts_of
from qcomp.calibration.statistics import float_outputs
from qcomp.config import QuantizationConfig
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.qdq import output_names, read_rounded, round_trip
from qcomp.quant.noise import Noise
from qcomp.quant.qparams import QParams
from qcomp.quantizer import Quantizer

Feed = Mapping[str, NDArray[Any]]

GOOD_ENOUGH = 1e-4  # noise to signal of a part: 40 dB


@dataclass
class Judge:
    """Compares outputs with those of the float network, which it computes once.

    fitting: samples that layers are fitted to where a trial fits any.
    weights: how much the noise of each part counts; without any, that of all outputs counts alike.
    """

    quantizer: Quantizer
    fitting: Sequence[Feed] = ()
    weights: Mapping[Part, float] = field(default_factory=dict)
    _reference: list[Answers] = field(default_factory=list)

    def weighing(self, config: QuantizationConfig, samples: Sequence[Feed]) -> Judge:
        """A judge whose parts are weighed by what 16 bits leave of their noise with `config`."""
        parts = parts_of(self.quantizer.normalized, self._answers(samples))
        if len(parts) < 2:
            return self
        alike = replace(self, weights=dict.fromkeys(parts, 1.0))
        wide = alike.tried(replace(config, activation_bits=16), samples)
        return replace(self, weights={p: _weight(noise) for p, noise in wide.parts.items()})

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
        return self.judged(_outputs(graph, samples), samples)

    def judged(self, answers: Sequence[Answers], samples: Sequence[Feed]) -> Judgement:
        """Of float outputs by name, for each sample."""
        weights = self.weights or _whole(self.quantizer.normalized)
        runs, parts = [], dict.fromkeys(weights, Noise())
        for expected, got in zip(self._answers(samples), answers, strict=True):
            run = Noise()
            for part, weight in weights.items():
                noise = noise_of(part, [expected], [got])
                run += noise.times(weight)
                parts[part] += noise
            runs.append(run)
        return Judgement(tuple(runs), parts, weights)

    def _answers(self, samples: Sequence[Feed]) -> list[Answers]:
        if len(self._reference) < len(samples):
            self._reference = _outputs(self.quantizer.normalized, samples)
        return self._reference[: len(samples)]


@dataclass(frozen=True)
class Judgement:
    """The noise of each sample, its parts weighed; and that of each part as it is."""

    runs: tuple[Noise, ...]
    parts: Mapping[Part, Noise] = field(default_factory=dict)
    weights: Mapping[Part, float] = field(default_factory=dict)

    @property
    def total(self) -> Noise:
        return sum(self.runs, Noise())

    @property
    def db(self) -> float:
        """The signal to noise ratio over all samples; weighed, where there are parts."""
        return self.total.db

    @property
    def worst(self) -> Part:
        """The part that falls short most."""
        return max(self.parts, key=lambda part: self.parts[part].noise * self.weights[part])

    @property
    def least_db(self) -> float:
        """The ratio of the part that has the least, whatever it could be."""
        return min(part.db for part in self.parts.values())

    def is_better(self, other: Judgement, least: float) -> bool:
        """Whether it is better by more than `least` dB, and not at the cost of one part."""
        return self.db > other.db + least and self._is_fair(other)

    def improves(self, other: Judgement, least: float) -> bool:
        """Whether it is better by `least` dB, and better on each half of the samples.

        What helps on one half only is taken for chance.
        """
        if self.db < other.db + least or not self._is_fair(other):
            return False
        return all(
            sum(self.runs[half], Noise()).noise < sum(other.runs[half], Noise()).noise
            for half in (slice(0, None, 2), slice(1, None, 2))
            if self.runs[half]
        )

    def _is_fair(self, other: Judgement) -> bool:
        """Whether the worst part gains, and no part loses more than twice as many decibels."""
        if len(self.parts) < 2:
            return True
        ours, theirs = self._short(), other._short()
        gain = max(theirs.values()) / max(ours.values())
        return gain >= 1.0 and all(ours[part] <= gain**2 * theirs[part] for part in ours)

    def _short(self) -> Mapping[Part, float]:
        """How many times the noise of each part is what it could be; 1 where it is good enough."""
        return {p: max(n.noise * self.weights[p], 1.0) for p, n in self.parts.items()}


def with_quantized(graph: Graph, qparams: Mapping[TensorId, QParams]) -> Graph:
    """A float graph in which only these activations are rounded."""
    result = graph.clone()
    for id, q in qparams.items():
        readers, outputs = result.consumers(id), output_names(result, id)
        read_rounded(result, id, round_trip(result, id, id, q), readers, outputs)
    return result


def _outputs(graph: Graph, samples: Sequence[Feed]) -> list[Answers]:
    """The float outputs of each sample."""
    session = FloatSession(graph)
    return [session.run(sample) for sample in samples]


def _whole(graph: Graph) -> Mapping[Part, float]:
    """Every float output, all of them alike."""
    return {Part(n, graph.type(id).rank): 1.0 for n, id in float_outputs(graph).items()}


def _weight(wide: Noise) -> float:
    """Of a part with that noise at 16 bits; none where it has no signal to lose."""
    least = max(wide.noise, GOOD_ENOUGH * wide.signal)
    return 1.0 / least if wide.signal > 0.0 else 0.0
