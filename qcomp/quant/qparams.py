"""Affine quantization parameters: `real = scale * (q - zero_point)`.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 2.1. Zero is always exactly representable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)

INTEGERS: Mapping[int, np.dtype[Any]] = {
    8: np.dtype(np.int8),
    16: np.dtype(np.int16),
    32: np.dtype(np.int32),
}
"""The numpy type of an activation by its width."""

SUM_BITS = 32
"""Of sums inside of a network that steep functions read; never of its inputs and outputs."""


def integer_range(bits: int) -> tuple[int, int]:
    """[qmin, qmax] of an activation of 8, 16 or 32 bits."""
    limits = np.iinfo(INTEGERS[bits])
    return int(limits.min), int(limits.max)


def _holds(bits: int, low: int, high: int) -> bool:
    qmin, qmax = integer_range(bits)
    return qmin <= low and high <= qmax


@dataclass(frozen=True)
class QParams:
    """Parameters of one tensor. `scale` is exactly a float32, so C and Python divide alike.

    Activations of 16 bits are symmetric (TensorFlow Lite's 16x8 specification): zero_point 0,
    qmin -32768, qmax 32767, and a scale of max|x| / 32767. Those of 32 bits are so too; they are
    sums inside of a network, and never its inputs or outputs.
    """

    scale: float
    zero_point: int = 0
    qmin: int = -128
    qmax: int = 127

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be positive and finite, not {self.scale}")
        if not self.qmin <= self.zero_point <= self.qmax:
            raise ValueError(f"zero_point {self.zero_point} outside [{self.qmin}, {self.qmax}]")

    @property
    def bits(self) -> int:
        """The width of the tensor, 8, 16 or 32."""
        fits = (bits for bits in INTEGERS if _holds(bits, self.qmin, self.qmax))
        return next(fits)

    @property
    def range(self) -> tuple[float, float]:
        """The real interval that is represented."""
        return (
            self.scale * (self.qmin - self.zero_point),
            self.scale * (self.qmax - self.zero_point),
        )

    @property
    def ends(self) -> tuple[int, ...]:
        """The integers of clipped values; the least is none where it stands for 0, as by a ReLU."""
        return (self.qmax,) if self.zero_point == self.qmin else (self.qmin, self.qmax)

    @staticmethod
    def from_range(
        low: float,
        high: float,
        *,
        qmin: int = -128,
        qmax: int = 127,
        symmetric: bool = False,
        power_of_two: bool = False,
    ) -> QParams:
        """Parameters whose interval covers [low, high] and 0; a range without width has scale 1.

        `power_of_two` takes the next larger scale that is one.
        """
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        if not high - low <= float(np.finfo(np.float32).max):
            raise ValueError(f"range [{low}, {high}] is not finite in float32")
        if symmetric:
            bound = max(-low, high)
            scale = _scale(bound / min(-qmin, qmax), power_of_two)
            return QParams(scale, 0, qmin, qmax)
        scale = _scale((high - low) / (qmax - qmin), power_of_two)
        zero_point = int(np.clip(np.rint(qmin - low / scale), qmin, qmax))
        return QParams(scale, zero_point, qmin, qmax)


SOFTMAX = QParams(1 / 256, -128)
"""What an 8-bit softmax gives (TensorFlow Lite's quantization specification)."""

FINEST_SOFTMAX = 5
"""How often the steps of an 8-bit softmax may be halved, so that 32 bits hold its quotients."""

SOFTMAX_16 = QParams(1 / 32768, 0, -32768, 32767)
"""What a 16-bit softmax gives (same source)."""


def softmax_qparams(bits: int, finer: int) -> QParams:
    """Those of a softmax whose steps are halved so often."""
    q = SOFTMAX if bits == 8 else SOFTMAX_16
    return replace(q, scale=q.scale / 2**finer)


def _scale(step: float, power_of_two: bool) -> float:
    """A float32, and no smaller than a normal one."""
    if step == 0.0:
        return 1.0
    scale = max(float(np.float32(step)), SMALLEST_SCALE)
    if power_of_two:
        mantissa, exponent = math.frexp(scale)
        scale = math.ldexp(1.0, exponent - (mantissa == 0.5))
    return scale


def quantize(x: Float, q: QParams) -> NDArray[np.integer]:
    """f32 to integers: float32 division, half to even, saturated; NaN gives the zero point."""
    with np.errstate(over="ignore"):  # to infinity, which saturates
        scaled = np.rint(x.astype(np.float32) / np.float32(q.scale)).astype(np.float64)
    steps = np.nan_to_num(scaled, nan=0.0, posinf=np.inf, neginf=-np.inf)
    saturated = np.clip(steps + q.zero_point, q.qmin, q.qmax)
    result: NDArray[np.integer] = saturated.astype(INTEGERS[q.bits])
    return result


def dequantize(x: NDArray[np.integer], q: QParams) -> NDArray[np.float32]:
    """Integers to f32: the product is rounded, and the difference too of an i32."""
    real = x.astype(np.float32)
    real -= np.float32(q.zero_point)
    real *= np.float32(q.scale)
    return real
