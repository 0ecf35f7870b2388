"""How long a run takes, and each op of it, as a report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcomp.ir.tensor import TensorId


@dataclass(frozen=True)
class Times:
    """Microseconds on this machine, by one thread: of ops, and `run` of the library as it is.

    The code that is timed op by op has a clock between them, so their sum is a little more.
    """

    isa: str
    ops: Mapping[TensorId, float]
    run: float

    @property
    def sum(self) -> float:
        """Of all ops."""
        return sum(self.ops.values())
