"""Coordinates and weights of resampling along one axis, as ONNX `Resize` defines them.

Modes are the strings of ONNX's coordinate_transformation_mode and nearest_mode. Coordinates are
computed in float32, operation by operation as ONNX Runtime does, since `nearest` turns the last bit
of a coordinate into another pixel. Positions outside the input take the edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

WEIGHT_BITS = 11

_HALF = np.float32(0.5)

# A coordinate this near to a half is a tie that float32 missed (ONNX Runtime issue 28291).
_TIE = 1e-6


def _half_pixel(x: F32, scale: np.float32, in_size: int, out_size: int) -> F32:
    return (x + _HALF) / scale - _HALF


def _half_pixel_symmetric(x: F32, scale: np.float32, in_size: int, out_size: int) -> F32:
    """Keeps the centre of the image where the true size scale * in_size is not an integer.

    The last sum is in float64, as in ONNX Runtime.
    """
    adjustment = np.float32(out_size) / (scale * np.float32(in_size))
    centre = np.float32(in_size) / np.float32(2)
    offset = np.float64(centre * (np.float32(1) - adjustment))
    return (offset + (x.astype(np.float64) + 0.5) / np.float64(scale) - 0.5).astype(np.float32)


def _pytorch_half_pixel(x: F32, scale: np.float32, in_size: int, out_size: int) -> F32:
    return _half_pixel(x, scale, in_size, out_size) if out_size > 1 else np.zeros_like(x)


def _align_corners(x: F32, scale: np.float32, in_size: int, out_size: int) -> F32:
    if out_size == 1:
        return np.zeros_like(x)
    return x * np.float32(in_size - 1) / np.float32(out_size - 1)


def _asymmetric(x: F32, scale: np.float32, in_size: int, out_size: int) -> F32:
    return x / scale


def _tf_half_pixel_for_nn(x: F32, scale: np.float32, in_size: int, out_size: int) -> F32:
    return (x + _HALF) / scale


_COORDINATES: Mapping[str, Callable[[F32, np.float32, int, int], F32]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "tf_half_pixel_for_nn": _tf_half_pixel_for_nn,
}

_ROUNDINGS: Mapping[str, Callable[[F64], F64]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5 - _TIE),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5 + _TIE),
    "floor": np.floor,
    "ceil": np.ceil,
}


def input_coordinates(in_size: int, out_size: int, scale: float, coordinates: str) -> F64:
    """Where each result position lies in the input, not yet clamped to it [out]."""
    x = np.arange(out_size, dtype=np.float32)
    if np.float32(scale) == 1.0 and in_size == out_size:
        return x.astype(np.float64)
    mode = _COORDINATES[coordinates]
    return mode(x, np.float32(scale), in_size, out_size).astype(np.float64)


def nearest_indices(
    in_size: int, out_size: int, scale: float, coordinates: str, rounding: str
) -> I64:
    """The input position that each result position copies [out]."""
    x = _ROUNDINGS[rounding](input_coordinates(in_size, out_size, scale, coordinates))
    return np.clip(x, 0, in_size - 1).astype(np.int64)


def linear_weights(
    in_size: int, out_size: int, scale: float, coordinates: str
) -> tuple[I64, I64, F64]:
    """(i0, i1, w1) [out]: the result is x[i0] * (1 - w1) + x[i1] * w1, with 0 <= w1 < 1."""
    x = np.clip(input_coordinates(in_size, out_size, scale, coordinates), 0, in_size - 1)
    i0 = np.floor(x).astype(np.int64)
    return i0, np.minimum(i0 + 1, in_size - 1), x - i0


def fixed_point_weights(w1: F64) -> I64:
    """w1 in Q11, rounded half to even: what the integer bilinear resampling uses."""
    return np.rint(w1 * (1 << WEIGHT_BITS)).astype(np.int64)
