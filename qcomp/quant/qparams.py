"""Affine quantization parameters: `real = scale * (q - zero_point)`.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 2.1. Zero is always exactly representable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class QParams:
    """Parameters of one tensor. `scale` is exactly a float32, so C and Python divide alike."""

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
    def range(self) -> tuple[float, float]:
        """The real interval that is represented."""
        return (
            self.scale * (self.qmin - self.zero_point),
            self.scale * (self.qmax - self.zero_point),
        )

    @staticmethod
    def from_range(
        low: float, high: float, *, qmin: int = -128, qmax: int = 127, symmetric: bool = False
    ) -> QParams:
        """Parameters whose interval covers [low, high] and 0; a range without width has scale 1."""
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        if not high - low <= float(np.finfo(np.float32).max):
            raise ValueError(f"range [{low}, {high}] is not finite in float32")
        if symmetric:
            bound = max(-low, high)
            scale = _float32(bound / min(-qmin, qmax))
            return QParams(scale, 0, qmin, qmax)
        scale = _float32((high - low) / (qmax - qmin))
        zero_point = int(np.clip(np.rint(qmin - low / scale), qmin, qmax))
        return QParams(scale, zero_point, qmin, qmax)


SOFTMAX = QParams(1 / 256, -128)
"""What every 8-bit softmax gives (TensorFlow Lite's quantization specification)."""


def _float32(scale: float) -> float:
    if scale == 0.0:
        return 1.0
    return max(float(np.float32(scale)), SMALLEST_SCALE)


def quantize(x: Float, q: QParams) -> NDArray[np.int8]:
    """f32 to i8: true float32 division, round half to even, saturate; NaN gives the zero point."""
    with np.errstate(over="ignore"):  # to infinity, which saturates
        scaled = np.rint(x.astype(np.float32) / np.float32(q.scale)).astype(np.float64)
    steps = np.nan_to_num(scaled, nan=0.0, posinf=np.inf, neginf=-np.inf)
    result: NDArray[np.int8] = np.clip(steps + q.zero_point, q.qmin, q.qmax).astype(np.int8)
    return result


def dequantize(x: NDArray[np.integer], q: QParams) -> NDArray[np.float32]:
    """i8 to f32; the product is rounded once, in float32."""
    return (x.astype(np.int32) - q.zero_point).astype(np.float32) * np.float32(q.scale)
