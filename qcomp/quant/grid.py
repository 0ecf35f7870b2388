"""The values that a rounded constant may take: `step * q`, symmetric around 0.

    bits >= 2:  q in [-(2^(bits-1) - 1), 2^(bits-1) - 1], 2 bits are ternary
    bits == 1:  q in {-1, +1}, binary

A step is `scale * multiplier`: one real scale for each channel (or for all), and where groups of
weights have their own steps an integer multiplier of the channel's scale (VS-Quant: Dai et al.,
MLSys 2021, section 4). What a kernel stores is `multiplier * q`, so the scale is all it must know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def largest(bits: int) -> int:
    """The largest |q| of a symmetric grid."""
    return max((1 << (bits - 1)) - 1, 1)


def nearest(x: F64, bits: int, out: F64 | None = None) -> F64:
    """The nearest q to x, which is in steps: half to even; of 1 bit, the sign (0 goes to +1).

    `out` may be x itself.
    """
    if bits == 1:
        return np.where(x < 0, -1.0, 1.0)
    limit = largest(bits)
    rounded = np.rint(x, out=out)
    return np.asarray(np.clip(rounded, -limit, limit, out=out))


@dataclass(frozen=True)
class Grid:
    """`scale` is f64 [C] along `axis` or [1]; `multiplier` i8, shaped as the constant, or None."""

    scale: F64
    bits: int
    axis: int = 0
    multiplier: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 48:
            raise ValueError(f"a grid has 1 to 48 bits, not {self.bits}")

    def steps(self, rank: int) -> F64:
        """scale * multiplier, in a shape that broadcasts to a constant of that rank."""
        step = self._scale(rank)
        return step if self.multiplier is None else step * self.multiplier

    def nearest(self, x: NDArray[np.floating]) -> I64:
        """The q whose values are nearest to x."""
        return self._nearest(x).astype(np.int64)

    def integers(self, x: NDArray[np.floating]) -> I64:
        """The integers that a kernel stores for x: multiplier * q."""
        q = self.nearest(x)
        return q if self.multiplier is None else q * self.multiplier

    def values(self, x: NDArray[np.floating]) -> F64:
        """x rounded to the grid; in place, as large layers take much memory."""
        q = self._nearest(x)
        if self.multiplier is not None:
            q *= self.multiplier
        q += 0.0  # no zero is negative
        q *= self._scale(x.ndim)
        return q

    def _nearest(self, x: NDArray[np.floating]) -> F64:
        steps = np.array(x, np.float64)
        steps /= self.steps(x.ndim)
        return nearest(steps, self.bits, out=steps)

    def _scale(self, rank: int) -> F64:
        shape = [1] * rank
        if self.scale.size > 1:
            shape[self.axis] = self.scale.size
        return self.scale.reshape(shape)
