"""Power of the outputs and of their error, summed run by run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.tensor import Array


@dataclass(frozen=True)
class Noise:
    """Sums of squares over all runs and outputs: of the float outputs, and of the difference."""

    signal: float = 0.0
    noise: float = 0.0

    @property
    def db(self) -> float:
        """10 log10(signal / noise), as `qcomp.quant.metrics.sqnr_db`; infinite without noise."""
        if self.noise == 0.0:
            return math.inf
        return 10.0 * math.log10(self.signal / self.noise) if self.signal > 0.0 else -math.inf

    def plus(self, reference: Sequence[Array], answer: Sequence[Array]) -> Noise:
        """With the outputs of one more run."""
        signal, noise = self.signal, self.noise
        for expected, got in zip(reference, answer, strict=True):
            wide = expected.astype(np.float64)
            signal += float(np.sum(wide**2))
            noise += float(np.sum((wide - got) ** 2))
        return Noise(signal, noise)
