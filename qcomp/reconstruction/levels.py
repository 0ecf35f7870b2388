"""The values that the weights of a layer may take, as levels to choose from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.grid import Grid, largest, nearest

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Levels:
    """The values `step * q` of qcomp.quant.grid; level j is the j-th q from below.

    `step` [G, O / G, 1 or K] goes with a layer's kernels as matrices [G, O / G, K].
    """

    step: F64
    bits: int

    @staticmethod
    def of(grid: Grid, shape: tuple[int, ...], groups: int) -> Levels:
        """The levels of a weight of this shape, output channels first."""
        step = np.broadcast_to(grid.steps(len(shape)), shape)
        by_group = step.reshape(groups, shape[0] // groups, -1)
        return Levels(by_group if grid.multiplier is not None else by_group[:, :, :1], grid.bits)

    @property
    def count(self) -> int:
        return 2 * largest(self.bits) // self._stride + 1

    @property
    def spacing(self) -> F64:
        """From one level to the next."""
        return self.step * self._stride

    @property
    def _stride(self) -> int:
        """Binary weights have no zero between -1 and 1."""
        return 2 if self.bits == 1 else 1

    def position(self, weight: F64) -> F64:
        """Where weights lie: a level with a fraction, without bounds."""
        return np.asarray((weight / self.step + largest(self.bits)) / self._stride)

    def nearest(self, weight: F64) -> F64:
        position = np.asarray(weight / self.step)
        return self._level(nearest(position, self.bits, position))

    def value(self, level: F64) -> F64:
        q = level * self._stride if self._stride > 1 else level
        return np.asarray(self.step * (q - largest(self.bits)))

    def at(self, k: int) -> Levels:
        """Those of column k alone, for weights [G, O / G]."""
        return replace(self, step=self.step[:, :, k if self.step.shape[2] > 1 else 0])

    def ordered(self, order: NDArray[np.intp]) -> Levels:
        """Those of the columns in another order [G, K]."""
        if self.step.shape[2] == 1:
            return self
        return replace(self, step=np.take_along_axis(self.step, order[:, None, :], 2))

    def scaled(self, factor: F64) -> Levels:
        """With other steps; `factor` [G, O / G]."""
        return replace(self, step=self.step * factor[:, :, None])

    def _level(self, q: F64) -> F64:
        level = np.asarray(q + largest(self.bits))
        return level / self._stride if self._stride > 1 else level
