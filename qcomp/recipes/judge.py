"""What trials of configurations are judged by: the noise that quantization puts on the outputs.

A trial simulates the QDQ form with ONNX Runtime on a few samples: on the first 16, and on the
others where the wrong one of two might be taken, and that might cost something. Most of what is
tried is far better, far worse or all the same, and then the rest would be run for nothing.

Where outputs have several parts, the noise of each is weighed: it counts in units of what 16 bits
leave of it, or of a tenth of a thousandth of the part's power where 16 bits leave less. So the part
that falls short most of what it could be decides, and a part that is good enough is not polished at
the cost of another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.accuracy.decisions import expected_agreement, scores_of_classes
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

PartNoise = Mapping[Part, Noise]

GOOD_ENOUGH = 1e-4  # noise to signal of a part: 40 dB
_FIRST = 16  # samples, before all: of fewer, one that is unlike the others decides
_NO_LOSS = 10.0**0.002 - 1.0  # of the noise: 0.02 dB


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

    def trial(
        self,
        config: QuantizationConfig,
        samples: Sequence[Feed],
        fitted_to: Sequence[Feed] | None = None,
    ) -> Trial:
        """The same on as many of the samples as a comparison will take."""
        return Trial(self, self.quantizer.quantized(config, fitted_to), samples)

    def noise(self, graph: Graph, samples: Sequence[Feed]) -> Judgement:
        """Of a QDQ graph's float outputs against the float network."""
        return Trial(self, graph, samples).on(len(samples))

    def judged(self, answers: Sequence[Answers], samples: Sequence[Feed]) -> Judgement:
        """Of float outputs by name, for each sample."""
        return self.summed(self.compared(answers, samples, 0))

    def compared(
        self, answers: Sequence[Answers], samples: Sequence[Feed], first: int
    ) -> list[PartNoise]:
        """The noise of each part in each of the samples from the first on."""
        expected = self._answers(samples, first + len(answers))[first:]
        return [
            {part: noise_of(part, [wanted], [got]) for part in self._weights}
            for wanted, got in zip(expected, answers, strict=True)
        ]

    def summed(self, noises: Sequence[PartNoise]) -> Judgement:
        """Of samples whose noise is known."""
        weights = self._weights
        runs = [sum((n.times(weights[p]) for p, n in run.items()), Noise()) for run in noises]
        parts = {part: sum((run[part] for run in noises), Noise()) for part in weights}
        return Judgement(tuple(runs), parts, weights)

    def agreement(self, judged: Judgement) -> float:
        """The share of these samples that are expected to keep their class; 1 without classes."""
        graph, runs = self.quantizer.normalized, self._reference[: len(judged.runs)]
        name = scores_of_classes(graph)
        if name is None:
            return 1.0
        classes = graph.type(graph.outputs[name]).shape[-1]
        scores = np.concatenate([answers[name].reshape(-1, classes) for answers in runs])
        return expected_agreement(scores, sum(n.noise for n in judged.parts.values()) / scores.size)

    @property
    def _weights(self) -> Mapping[Part, float]:
        return self.weights or _whole(self.quantizer.normalized)

    def _answers(self, samples: Sequence[Feed], count: int | None = None) -> list[Answers]:
        """Of the float network, to the first samples, or to all."""
        count, known = len(samples) if count is None else count, self._reference
        if len(known) < count:
            known += _outputs(self.quantizer.normalized, samples[len(known) : count])
        return known[:count]


class Trial:
    """A QDQ graph that is judged by the first samples, and by more where that tells too little."""

    def __init__(self, judge: Judge, graph: Graph, samples: Sequence[Feed]) -> None:
        self._judge, self._samples = judge, samples
        self._graph: Graph | None = graph
        self._session: FloatSession | None = None
        self._noises: list[PartNoise] = []

    @property
    def available(self) -> int:
        """How many samples there are."""
        return len(self._samples)

    @property
    def now(self) -> Judgement:
        """By the samples that were run so far; some are, if none were."""
        return self.on(max(len(self._noises), _stages(self.available)[0]))

    @property
    def whole(self) -> Judgement:
        """By all samples."""
        return self.on(self.available)

    @property
    def agreement(self) -> float:
        """The share of all samples that are expected to keep their class; 1 without classes."""
        return self._judge.agreement(self.whole)

    def on(self, count: int) -> Judgement:
        """By the first so many."""
        done = len(self._noises)
        if count > done:
            answers = self._run(self._samples[done:count])
            self._noises += self._judge.compared(answers, self._samples, done)
        return self._judge.summed(self._noises[:count])

    def _run(self, samples: Sequence[Feed]) -> list[Answers]:
        if self._session is None:
            assert self._graph is not None  # until all samples were run
            self._session = FloatSession(self._graph)
        answers: list[Answers] = [self._session.run(sample) for sample in samples]
        if len(self._noises) + len(samples) == self.available:
            self._session = self._graph = None
        return answers


def decided(ours: Trial, theirs: Trial, least: float) -> tuple[Judgement, Judgement]:
    """Judgements of both by as many samples as tell which is better, by more than `least` dB."""
    for count in _stages(ours.available):
        a, b = ours.on(count), theirs.on(count)
        if a.is_clear(b, least):
            break
    return a, b


def _stages(available: int) -> Sequence[int]:
    """How many samples a comparison takes, and how many if these leave it open."""
    return [_FIRST, available] if available >= 2 * _FIRST else [available]


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

    def db_of_first(self, count: int) -> float:
        """The same over the first samples only."""
        return sum(self.runs[:count], Noise()).db

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

    def is_clear(self, other: Judgement, least: float) -> bool:
        """Whether more of such samples would hardly change what `is_better` says, or hardly matter.

        The expected loss of the choice that looks best, over how these few samples may mislead
        (Chick and Inoue, "New two-stage and sequential procedures for selecting the best simulated
        system", Operations Research 49, 2001), is next to nothing. Where outputs
        have several parts, what is better on the whole may be unfair to one of them, and only what
        is worse is clear.
        """
        if len(self.runs) < _FIRST:
            return False
        asked = 10.0 ** (least / 10.0)
        gains = np.array(
            [b.noise - asked * a.noise for a, b in zip(self.runs, other.runs, strict=True)]
        )
        gain, error = float(gains.mean()), float(gains.std(ddof=1)) / len(gains) ** 0.5
        if len(self.parts) > 1 and gain > 0:
            return False
        return _expected_loss(abs(gain), error) <= _NO_LOSS * other.total.noise / len(gains)

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


def _expected_loss(gain: float, error: float) -> float:
    """What the better of two by `gain` is expected to lose, if the gain is off by `error`."""
    if error == 0.0:
        return 0.0
    t = gain / error
    density = math.exp(-t * t / 2.0) / math.sqrt(2.0 * math.pi)
    return error * (density - t * math.erfc(t / math.sqrt(2.0)) / 2.0)


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
