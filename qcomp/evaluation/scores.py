"""Sums over samples, one at a time: right classes, agreement, noise, and the worst of all."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcomp.accuracy.parts import Part
from qcomp.accuracy.record import finite
from qcomp.evaluation.record import OutputNoise
from qcomp.ir.tensor import Array
from qcomp.quant.noise import Noise

Answers = Mapping[str, Array]

TOP = 5


def split(answers: Answers, batch: int) -> Iterator[Answers]:
    """The outputs of each sample of a run; all of them where one has no axis of samples."""
    if batch == 1 or any(a.ndim == 0 or a.shape[0] != batch for a in answers.values()):
        yield answers
        return
    for i in range(batch):
        yield {name: a[i : i + 1] for name, a in answers.items()}


def classes_of(output: Array) -> int | None:
    """How many classes an output of one sample scores; None where it is no list of scores."""
    extents = [extent for extent in output.shape if extent != 1]
    return extents[0] if len(extents) == 1 and extents[0] > 1 else None


@dataclass(eq=False)
class Ranking:
    """The largest outputs of each sample, best first: at most `TOP` classes."""

    places: list[Sequence[int]] = field(default_factory=list)

    def add(self, output: Array) -> None:
        scores = output.ravel()
        count = min(TOP, scores.size)
        top = np.argpartition(-scores, count - 1)[:count]
        first = top[np.lexsort((top, -scores[top]))]
        best = int(scores.argmax())
        self.places.append([best, *(int(c) for c in first if c != best)][:count])

    def right(self, labels: Sequence[int], first: int) -> float:
        """The share of samples whose label is among the first so many."""
        hits = [label in top[:first] for label, top in zip(labels, self.places, strict=True)]
        return sum(hits) / len(hits)


@dataclass(eq=False)
class Comparison:
    """Of two networks, output by output and sample by sample."""

    parts: Sequence[Part]
    noises: list[Noise] = field(default_factory=list)
    most: int = 5
    _worst: list[tuple[float, int]] = field(default_factory=list)

    def add(self, place: int, reference: Answers, answers: Answers) -> None:
        noises = [
            Noise().plus([part.of(reference[part.output])], [part.of(answers[part.output])])
            for part in self.parts
        ]
        kept = self.noises or [Noise()] * len(noises)
        self.noises = [a + b for a, b in zip(kept, noises, strict=True)]
        ratios = [noise.db for noise in noises if noise.signal > 0.0 and math.isfinite(noise.db)]
        if ratios and self.most:
            item = (-min(ratios), -place)
            keep = heapq.heappush if len(self._worst) < self.most else heapq.heappushpop
            keep(self._worst, item)

    @property
    def outputs(self) -> tuple[OutputNoise, ...]:
        """Over all samples; an infinite ratio, as of equal outputs, is None."""
        noises = self.noises or [Noise()] * len(self.parts)
        return tuple(
            OutputNoise(str(part), finite(noise.db))
            for part, noise in zip(self.parts, noises, strict=True)
        )

    def worst(self) -> list[tuple[int, float]]:
        """(place, decibels) of the worst samples, the worst first."""
        return [(-place, -ratio) for ratio, place in sorted(self._worst, reverse=True)]
