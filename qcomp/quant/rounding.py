"""Rounding of activations in float arithmetic, with parameters that a trial may choose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.qparams import QParams

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rounding:
    """x -> scale * clip(rint(x / scale), low, high), each [1], or [C] along the last axis.

    `low` and `high` are integers less the zero point, so they say how many bits there are.
    """

    scale: F32
    low: F32
    high: F32

    @staticmethod
    def of(q: QParams) -> Rounding:
        """What quantize and dequantize with these parameters make of a value, bit by bit."""
        ends = (q.scale, q.qmin - q.zero_point, q.qmax - q.zero_point)
        return Rounding(*(np.array([end], np.float32) for end in ends))

    def __call__(self, x: F32) -> F32:
        integers = np.clip(np.rint(x / self.scale), self.low, self.high)
        return np.asarray(integers * self.scale)


NOTHING = Rounding(*(np.array([end], np.float32) for end in (2.0**-60, -np.inf, np.inf)))
"""Leaves every float32 between 2^-36 and 2^67 as it is, and moves smaller ones by 2^-61 at most."""
