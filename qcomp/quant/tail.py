"""The function by which a network ends and which floats outside compute, where the caller asks.

Integers then stand for what goes into it, such as logits. It is computed in float32 by the header
of a library and by Python alike; the last bits of an exponential are those of their libraries.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class TailFunction(enum.StrEnum):
    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"
    LOG_SOFTMAX = "log_softmax"


@dataclass(frozen=True)
class Tail:
    """`axis`: along which a softmax sums."""

    function: TailFunction
    axis: int = 0

    def __call__(self, x: F32) -> F32:
        """The output's values, of those that the integers stand for."""
        if self.function is TailFunction.SIGMOID:
            with np.errstate(over="ignore"):
                return np.float32(1.0) / (np.float32(1.0) + np.exp(-x))
        shifted = x - x.max(axis=self.axis, keepdims=True)
        powers = np.exp(shifted)
        sums = powers.sum(axis=self.axis, keepdims=True, dtype=np.float32)
        if self.function is TailFunction.SOFTMAX:
            return np.asarray(powers / sums)
        return np.asarray(shifted - np.log(sums))
