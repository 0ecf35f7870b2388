"""What stands between an input or output in the caller's units and the values that are quantized.

    real = scale[c] * value + offset[c]        along one axis

It is computed in float32, by the header of a library and by Python in the same order, so that both
have the same bits: no multiplication is followed by an addition, which compilers may fuse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.qparams import Float, QParams, quantize

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Conversion:
    """`scale` and `offset` have a float32 for each channel along the axis, or one in all."""

    axis: int
    scale: tuple[float, ...]
    offset: tuple[float, ...]

    @staticmethod
    def of(axis: int, scale: NDArray[np.floating], offset: NDArray[np.floating]) -> Conversion:
        """With the nearest float32 of each number."""
        numbers = (a.astype(np.float32).astype(np.float64).tolist() for a in (scale, offset))
        return Conversion(axis, *map(tuple, numbers))

    def inward(self, real: Float) -> F32:
        """The values of numbers in the caller's units."""
        x = np.asarray(real, np.float32)
        return (x - self._along(x, self.offset)) / self._along(x, self.scale)

    def in_steps(self, q: QParams) -> Conversion:
        """From the caller's units to steps from the zero point."""
        return Conversion.of(self.axis, np.array(self.scale) * q.scale, np.array(self.offset))

    @property
    def shift(self) -> tuple[float, ...]:
        """offset / scale, in float32."""
        ratio = np.array(self.offset, np.float32) / np.array(self.scale, np.float32)
        return tuple(ratio.astype(np.float64).tolist())

    def outward(self, values: F32) -> F32:
        """Numbers in the caller's units, as (values + shift) * scale."""
        return (values + self._along(values, self.shift)) * self._along(values, self.scale)

    def _along(self, x: NDArray[np.generic], numbers: tuple[float, ...]) -> F32:
        shape = [1] * x.ndim
        if len(numbers) > 1:
            shape[self.axis] = len(numbers)
        return np.array(numbers, np.float32).reshape(shape)


def quantize_real(x: Float, q: QParams, conversion: Conversion) -> NDArray[np.integer]:
    """As `quantize`, of numbers in the caller's units."""
    with np.errstate(over="ignore"):
        steps = conversion.in_steps(q).inward(x)
    return quantize(steps, QParams(1.0, q.zero_point, q.qmin, q.qmax))


def dequantize_real(x: NDArray[np.integer], q: QParams, conversion: Conversion) -> F32:
    """As `dequantize`, to numbers in the caller's units."""
    steps = (x.astype(np.int32) - q.zero_point).astype(np.float32)
    return conversion.in_steps(q).outward(steps)
