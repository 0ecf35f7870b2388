"""Measures how near the outputs of a compiled network are to those of the float network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.accuracy.parts import Answers, Part, parts_of
from qcomp.accuracy.record import Accuracy, PartAccuracy, finite
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.quant.noise import Noise
from qcomp.quant.qparams import QParams, quantize

Feed = Mapping[str, NDArray[Any]]
Answering = Callable[[Feed], Any]


def measured_accuracy(
    imported: Graph, outputs: Collection[str], answering: Answering, samples: Sequence[Feed]
) -> Accuracy | None:
    """Of what the network answers against the float network as imported.

    outputs: those that stand for real numbers. None where there is none: an ArgMax gives indices.
    """
    session = FloatSession(imported)
    reference = [session.run(sample) for sample in samples]
    parts = [p for p in parts_of(imported, reference) if p.output in outputs]
    if not parts:
        return None
    answers = [answering(sample) for sample in samples]
    noises = [noise_of(part, reference, answers) for part in parts]
    return Accuracy(
        samples=len(samples),
        sqnr_db=finite(sum(noises, Noise()).db),
        parts=tuple(
            _measured(part, noise, reference, answers)
            for part, noise in zip(parts, noises, strict=True)
        ),
    )


def noise_of(part: Part, reference: Sequence[Answers], answers: Sequence[Answers]) -> Noise:
    """The noise of a part over samples."""
    expected, got = ([part.of(a[part.output]) for a in both] for both in (reference, answers))
    return Noise().plus(expected, got)


def _measured(
    part: Part, noise: Noise, reference: Sequence[Answers], answers: Sequence[Answers]
) -> PartAccuracy:
    expected, got = (
        np.concatenate([part.of(a[part.output]).ravel() for a in both])
        for both in (reference, answers)
    )
    low, high = float(expected.min()), float(expected.max())
    own = QParams.from_range(low, high)
    return PartAccuracy(
        part=part,
        sqnr_db=finite(noise.db),
        low=low,
        high=high,
        integers=int(np.unique(got).size),
        own_integers=int(np.unique(quantize(expected, own)).size),
    )
