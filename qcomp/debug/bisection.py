"""What a bisection found: its trials, and which of them explain the loss."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from qcomp.accuracy.record import finite


@dataclass(frozen=True)
class Trial:
    """One change and what it gave; None where the network can't do without, for a reason."""

    name: str
    told: str
    value: float | None
    gain: float | None
    reason: str = ""

    def __str__(self) -> str:
        """The name and the change, which may begin with the name."""
        return self.told if self.told.startswith(self.name) else f"{self.name}: {self.told}"


@dataclass(frozen=True)
class Bisection:
    """What was found; values are of the metric, and larger is better.

    of_float: of the float network; None where that is the reference.
    base: of the configuration that was asked about. together: of all causes.
    data: what the data itself shows. trials: in the order in which they were made.
    causes: the names of the trials that explain the loss, the one that gains most first; empty
        where nothing is lost or nothing helps.
    """

    metric: str
    unit: str
    samples: int
    of_float: float | None
    base: float
    together: float | None
    data: tuple[str, ...]
    trials: tuple[Trial, ...]
    causes: tuple[str, ...]
    verdict: str

    def json(self) -> dict[str, Any]:
        """The object that `--json` prints; an infinite ratio is null."""
        found: dict[str, Any] = _finite(dataclasses.asdict(self))
        return found


def _finite(value: Any) -> Any:
    """As JSON can write it."""
    if isinstance(value, float):
        return None if math.isnan(value) else finite(value)
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
