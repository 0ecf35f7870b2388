"""The accuracy of a compiled network: a figure for each part of each output."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qcomp.accuracy.parts import Part


@dataclass(frozen=True)
class PartAccuracy:
    """Of one part, over all samples.

    sqnr_db: 10 log10(signal / error); None where nothing differs or the float values are all 0.
    low, high: the least and the largest float value.
    integers: how many different integers the quantized values take.
    own_integers: how many of 256 the float values would take with a range of their own.
    """

    part: Part
    sqnr_db: float | None
    low: float
    high: float
    integers: int
    own_integers: int

    def __str__(self) -> str:
        ratio = "nothing to compare" if self.sqnr_db is None else f"{self.sqnr_db:.1f} dB"
        values = f"values {self.low:.4g} to {self.high:.4g} in {self.integers} integers"
        return f"{self.part}: {ratio}, {values}"


@dataclass(frozen=True)
class StepsAccuracy:
    """Of the steps `first` to `last` of sequences, counted from 1, over all outputs."""

    first: int
    last: int
    sqnr_db: float | None

    def __str__(self) -> str:
        ratio = "nothing to compare" if self.sqnr_db is None else f"{self.sqnr_db:.1f} dB"
        return f"{self.first} to {self.last}: {ratio}"


@dataclass(frozen=True)
class Accuracy:
    """Quantized outputs against those of the float network, on some samples.

    sqnr_db: of all outputs together, which a loud part decides; see `worst`.
    held_back: whether calibration left these samples out; else they are some of its own, on which
        outputs are nearer than on others.
    steps: of a network with states, by the steps of a sequence, each network from its own states.
    """

    samples: int
    sqnr_db: float | None
    parts: tuple[PartAccuracy, ...]
    held_back: bool = False
    steps: tuple[StepsAccuracy, ...] = ()

    @property
    def worst(self) -> PartAccuracy | None:
        """The part of the lowest ratio; None where no part has one."""
        measured = [p for p in self.parts if p.sqnr_db is not None]
        return min(measured, key=lambda p: p.sqnr_db or 0.0, default=None)


def finite(ratio: float) -> float | None:
    """A ratio as JSON can write it: None for an infinite one."""
    return ratio if math.isfinite(ratio) else None


def plain(accuracy: Accuracy | None) -> dict[str, Any] | None:
    """As JSON has it."""
    return None if accuracy is None else dataclasses.asdict(accuracy)


def read(record: Mapping[str, Any] | None) -> Accuracy | None:
    """What `plain` gave; KeyError or TypeError for anything else."""
    if record is None:
        return None
    parts = [{**p, "part": _part(p["part"])} for p in record["parts"]]
    return Accuracy(
        record["samples"],
        record["sqnr_db"],
        tuple(PartAccuracy(**p) for p in parts),
        record.get("held_back", False),
        tuple(StepsAccuracy(**steps) for steps in record.get("steps", ())),
    )


def _part(record: Mapping[str, Any]) -> Part:
    runs = tuple((int(first), int(end)) for first, end in record["channels"])
    return Part(record["output"], record["rank"], record["axis"], runs)
