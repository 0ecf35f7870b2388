"""A finding: what is wrong where, by how much, and what helps."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_TOLD = 5


class Kind(enum.StrEnum):
    """In the order in which findings are told: causes before what follows from them."""

    LABELS = "labels"
    LAYOUT = "layout"
    NOISE = "noise"
    INPUT_SCALE = "input-scale"
    CONSTANT = "constant"
    UNLIKE = "unlike"
    OUTLIERS = "outliers"
    FIRST_LAYER = "first-layer"
    UNLIKE_TRAINING = "unlike-training"
    ONE_ANSWER = "one-answer"
    INACCURATE = "inaccurate"
    DRIFT = "drift"
    FEW_INTEGERS = "few-integers"
    REPEATED = "repeated"
    FEW_SAMPLES = "few-samples"


@dataclass(frozen=True)
class Finding:
    """Something that costs accuracy.

    where: an input, a tensor, a part of an output, or "calibration data".
    number: how bad it is, in the unit that `text` tells.
    help: the option, or the change of the data, that helps.
    """

    kind: Kind
    where: str
    number: float
    text: str
    help: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}; {self.help}"


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By kind; those of one kind as they come, the worst first."""
    return tuple(sorted(findings, key=lambda f: list(Kind).index(f.kind)))


def told(findings: Sequence[Finding]) -> list[str]:
    """Lines of the first few, and how many more there are."""
    more = len(findings) - MOST_TOLD
    lines = [str(finding) for finding in findings[:MOST_TOLD]]
    return [*lines, f"and {more} more, which the manifest lists"] if more > 0 else lines


def plain(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """As JSON has them."""
    return [dataclasses.asdict(finding) for finding in findings]


def read(records: Iterable[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """What `plain` gave; TypeError or ValueError for anything else."""
    return tuple(Finding(**{**record, "kind": Kind(record["kind"])}) for record in records)
