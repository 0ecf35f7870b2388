"""What is summed up of one op by itself: its error, and the powers of its causes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.qparams import QParams, dequantize, quantize
from qcomp.report.sums import Figures, Sums


class Cause(enum.StrEnum):
    """Where a part of an isolated error comes from."""

    WEIGHTS = "weights"
    BIAS = "bias"
    CLIPPING = "clipping"
    ROUNDING = "rounding"
    REQUANTIZE = "requantize"
    TABLE = "table"


@dataclass(frozen=True)
class Isolated:
    """Of an op by itself.

    causes: the power of each. outside: those that are no part of the error.
    clipped: the share of its results that lie beyond the range by more than half a step.
    """

    figures: Figures
    causes: Mapping[Cause, float]
    clipped: float
    outside: frozenset[Cause] = frozenset()

    @property
    def main_cause(self) -> Cause:
        """Of the largest power among the parts of the error."""
        inside = [cause for cause in self.causes if cause not in self.outside]
        return max(inside, key=lambda cause: self.causes[cause])


@dataclass(frozen=True)
class TensorError:
    """Of one integer tensor: `real` is its float, `mnemonic` that of its op, "input" of an input.

    cumulative: None where the integer network was not run. isolated: None for an op that only
    copies integers, or of which some tensor stands for no float; `reason` says which.
    """

    id: TensorId
    real: TensorId
    mnemonic: str
    qparams: QParams
    cumulative: Figures | None
    isolated: Isolated | None
    reason: str = ""


@dataclass
class AloneSums:
    """Sums of one op's isolated error."""

    q: QParams
    arithmetic: Cause
    total: Sums
    powers: dict[Cause, float]
    outside: frozenset[Cause]
    clipped: int = 0
    count: int = 0

    def add(self, y: Array, weighted: Array, biased: Array, arithmetic: Array | None) -> Array:
        """One sample; the isolated value."""
        low, high = (np.float32(limit) for limit in self.q.range)
        value = weighted if Cause.BIAS in self.outside else biased
        inside = np.clip(value, low, high)
        rounded = _on_grid(value, self.q)
        error = rounded - y
        if weighted is not y:
            self._power(Cause.WEIGHTS, weighted - y)
        if biased is not weighted:
            self._power(Cause.BIAS, biased - weighted)
        beyond = value - inside
        if beyond.any():
            self._power(Cause.CLIPPING, beyond)
            self.clipped += int(np.count_nonzero(np.abs(beyond) > self.q.scale / 2))
        self._power(Cause.ROUNDING, rounded - inside)
        if arithmetic is not None and arithmetic.any():
            self._power(self.arithmetic, arithmetic)
            error += arithmetic
        self.count += y.size
        self.total.add(y, error)
        return np.asarray(y + error)

    def _power(self, cause: Cause, error: Array) -> None:
        flat = error.ravel()
        self.powers[cause] += float(np.dot(flat, flat))

    @property
    def found(self) -> Isolated:
        return Isolated(
            self.total.figures, dict(self.powers), self.clipped / max(self.count, 1), self.outside
        )


def _on_grid(value: Array, q: QParams) -> Array:
    return dequantize(quantize(value, q), q)
