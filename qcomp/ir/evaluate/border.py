"""Meanings of the ops between floats and integers; the parameters come with the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops import FakeQuantConstant, IntegerConstant, Op
from qcomp.ir.tensor import Array


def fake_quant_constant(
    op: FakeQuantConstant, x: NDArray[np.float32], *grid: NDArray[Any]
) -> NDArray[np.float32]:
    return op.grid(*grid).values(x).astype(np.float32)


def integer_constant(
    op: IntegerConstant, x: NDArray[np.integer], scale: NDArray[Any], zero_point: NDArray[Any]
) -> NDArray[np.float32]:
    """The product is rounded once, in float32."""
    return dequantized_constant(x, scale, zero_point, op.axis).astype(np.float32)


def dequantized_constant(
    x: NDArray[np.integer], scale: NDArray[Any], zero_point: NDArray[Any], axis: int
) -> NDArray[np.float64]:
    """scale * (x - zero_point) along an axis."""
    shape = [1] * x.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    steps = x.astype(np.int64) - zero_point.reshape(shape)
    return np.asarray(scale.reshape(shape) * steps)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    FakeQuantConstant: fake_quant_constant,
    IntegerConstant: integer_constant,
}
