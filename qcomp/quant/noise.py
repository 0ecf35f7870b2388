"""Power of a signal and of its error: what every signal-to-noise ratio here is taken of."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Noise:
    """Sums of squares: of reference values, and of their difference from what approximates them."""

    signal: float = 0.0
    noise: float = 0.0

    @property
    def db(self) -> float:
        """10 log10(signal / noise); infinite without noise, -infinite with nothing else."""
        if self.noise == 0.0:
            return math.inf
        ratio = self.signal / self.noise  # 0 too where the noise is without bounds
        return 10.0 * math.log10(ratio) if ratio > 0.0 else -math.inf

    def __add__(self, other: Noise) -> Noise:
        return Noise(self.signal + other.signal, self.noise + other.noise)

    def times(self, weight: float) -> Noise:
        """Both powers in other units."""
        return Noise(weight * self.signal, weight * self.noise)

    def plus(self, reference: Iterable[NDArray[Any]], answer: Iterable[NDArray[Any]]) -> Noise:
        """With more arrays and their approximations."""
        total = self
        for expected, got in zip(reference, answer, strict=True):
            wide = expected.astype(np.float64)
            total += Noise(float(np.sum(wide**2)), float(np.sum((wide - got) ** 2)))
        return total
