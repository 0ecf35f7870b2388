"""The integers that an activation is rounded to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class IntegerGrid:
    """Integers qmin..qmax; the zero point is 0 on a symmetric grid, else free."""

    qmin: int = -128
    qmax: int = 127
    symmetric: bool = False

    @staticmethod
    def of(bits: int, *, symmetric: bool = False) -> IntegerGrid:
        """All integers of so many bits, in two's complement."""
        if bits < 2:
            raise ValueError(f"{bits} bits; expected at least 2")
        return IntegerGrid(-(1 << (bits - 1)), (1 << (bits - 1)) - 1, symmetric)

    @property
    def steps(self) -> int:
        """Between the smallest and the largest integer."""
        return self.qmax - self.qmin

    @property
    def reach(self) -> int:
        """Steps from 0 to the nearer end, which bounds what a symmetric grid represents."""
        return min(-self.qmin, self.qmax)

    def step_and_zero(self, low: F64, high: F64) -> tuple[F64, F64]:
        """Step and zero point for each range [low, high], which contains 0."""
        tiny = np.finfo(np.float64).tiny
        if self.symmetric:
            step = np.maximum(np.maximum(-low, high) / self.reach, tiny)
            return step, np.zeros_like(step)
        step = np.maximum((high - low) / self.steps, tiny)
        return step, np.clip(np.rint(self.qmin - low / step), self.qmin, self.qmax)
