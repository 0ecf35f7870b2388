"""Functions of one integer as TensorFlow Lite's reference kernels compute them, exact, in numpy.

    f(q, x, y)      q i64, integers of the operand; the result is in steps of y, not saturated

x and y are the parameters of operand and result, whose scales are float32 numbers. Each is for any
width of either, but for those that are tables of bytes in the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from qcomp.quant import gemmlowp
from qcomp.quant.fixed_point import (
    I64,
    Form,
    multiplier_tflite,
    rescaled,
    rounding_divide_by_pot,
)
from qcomp.quant.qparams import INTEGERS, QParams, integer_range
from qcomp.quant.tflite_constants import Fixed, f32, f32_quotient, signed_multiplier

F64 = NDArray[np.float64]
IntegerFunction = Callable[[I64, QParams, QParams], I64]


class Quotient(Protocol):
    """A product of scales over one, in some precision."""

    def __call__(self, *factors: float, by: float = 1.0) -> float: ...


_BEYOND = 2.0**30  # beyond every result
_ROOT_BITS = 20  # of the fraction of an inverse root


def table_of(function: IntegerFunction, x: QParams, y: QParams) -> NDArray[np.integer]:
    """The results of all integers of x, from the least on, saturated to y's."""
    low, high = integer_range(x.bits)
    results = function(np.arange(low, high + 1, dtype=np.int64), x, y)
    table: NDArray[np.integer] = np.clip(results, y.qmin, y.qmax).astype(INTEGERS[y.bits])
    return table


def scaled_by(x: I64, fixed: Fixed) -> I64:
    """MultiplyByQuantizedMultiplier."""
    return rescaled(x, np.array(fixed[0]), np.array(fixed[1]), Form.TFLITE)


def requantized(q: I64, x: QParams, y: QParams) -> I64:
    """QUANTIZE of integers."""
    return y.zero_point + scaled_by(q - x.zero_point, multiplier_tflite(x.scale / y.scale))


def joined(q: I64, x: QParams, y: QParams) -> I64:
    """CONCATENATION of bytes without a sign that have another scale, in float32."""
    factor = np.float32(x.scale) * (np.float32(1) / np.float32(y.scale))
    bias = np.float32(-(x.zero_point + 128)) * factor
    return np.asarray(_away((q + 128).astype(np.float32) * factor + bias) + y.zero_point, np.int64)


def rectified(q: I64, x: QParams, y: QParams) -> I64:
    """RELU and its like, before they saturate."""
    factor = multiplier_tflite(f32_quotient(x.scale, by=y.scale))
    return y.zero_point + scaled_by(q - x.zero_point, factor)


def magnitude(quotient: Quotient) -> IntegerFunction:
    """ABS."""

    def function(q: I64, x: QParams, y: QParams) -> I64:
        factor = multiplier_tflite(quotient(x.scale, by=y.scale))
        return y.zero_point + scaled_by(np.abs(q - x.zero_point), factor)

    return function


def leaky(alpha: float, quotient: Quotient) -> IntegerFunction:
    """LEAKY_RELU; alpha is a float32 and may be negative."""

    def function(q: I64, x: QParams, y: QParams) -> I64:
        t = q - x.zero_point
        positive = multiplier_tflite(quotient(x.scale, by=y.scale))
        negative = signed_multiplier(quotient(x.scale, alpha, by=y.scale))
        scaled = np.where(t >= 0, scaled_by(t, positive), scaled_by(t, negative))
        return y.zero_point + scaled

    return function


def looked_up(function: Callable[[F64], F64]) -> IntegerFunction:
    """LOGISTIC, TANH, EXP and their like: tables of bytes that the reference fills with float32."""

    def of_steps(q: I64, x: QParams, y: QParams) -> I64:
        real = (np.float32(x.scale) * (q - x.zero_point).astype(np.float32)).astype(np.float64)
        with np.errstate(all="ignore"):
            f = function(real).astype(np.float32)
            steps = (f * (np.float32(1) / np.float32(y.scale))).astype(np.float64)
        whole = np.trunc(np.abs(steps) + 0.5)
        finite = np.clip(np.nan_to_num(np.copysign(whole, steps), nan=0.0), -_BEYOND, _BEYOND)
        return np.asarray(finite + y.zero_point, np.int64)

    return of_steps


def interpolated(function: Callable[[F64], F64]) -> IntegerFunction:
    """EXP, GELU and their like of 16 bits: 513 entries that the reference fills with float32, each
    moved by half of the error that interpolation has in the middle behind it.
    """

    def of_steps(q: I64, x: QParams, y: QParams) -> I64:
        step, y_step = np.float32(x.scale), np.float32(y.scale)
        low, high = (step * np.float32(limit) for limit in (-(2**15), 2**15 - 1))
        least, most = (y_step * np.float32(limit) for limit in (-(2**15), 2**15 - 1))
        scaling = np.float32(2**16) / (most - least)
        return looked_up_16(table_513(function, low, high, scaling), q)

    return of_steps


def looked_up_16(table: I64, q: I64) -> I64:
    """LUTLookup: between two of 513 entries."""
    i, rest = 256 + (q >> 7), q & 127
    return np.asarray(table[i] + (((table[i + 1] - table[i]) * rest + 64) >> 7), np.int64)


def logarithm_16(q: I64, x: QParams, y: QParams) -> I64:
    """LOG of 16 bits; of what has none, the least."""
    least = y.range[0]
    return interpolated(lambda real: np.where(real > 0, np.log(real), least))(q, x, y)


def inverse_root_16(q: I64, x: QParams, y: QParams) -> I64:
    """RSQRT of 16 bits; of what has none, the largest."""
    most = y.range[1]
    return interpolated(lambda real: np.where(real > 0, _inverse_root_f32(real), most))(q, x, y)


def _inverse_root_f32(real: F64) -> F64:
    """A float32 root, then a float32 quotient."""
    return np.asarray(1 / np.sqrt(real).astype(np.float32), np.float64)


def gelu(real: F64) -> F64:
    """Of float32 numbers, rounded to float32 behind every operation."""
    x = real.astype(np.float32)
    tail = special.erfc((x * np.float32(-math.sqrt(0.5))).astype(np.float64)).astype(np.float32)
    return np.asarray(np.float32(0.5) * x * tail, np.float64)


def gelu_tanh(real: F64) -> F64:
    """As gelu, by a hyperbolic tangent."""
    x = real.astype(np.float32)
    inner = x + np.float32(0.044715) * x * x * x
    argument = np.float32(math.sqrt(2 / math.pi)) * inner
    tangent = np.tanh(argument.astype(np.float64)).astype(np.float32)
    return np.asarray(np.float32(0.5) * x * (np.float32(1) + tangent), np.float64)


Scalar = TypeVar("Scalar", np.float32, np.float64)


def table_513(function: Callable[[F64], F64], low: Scalar, high: Scalar, scaling: Scalar) -> I64:
    """LUTPopulateInt16: the function from low to high times `scaling`, in the scalars' type."""
    kind = type(low)
    half = (step := (high - low) / kind(512)) / kind(2)

    def f(real: NDArray[Scalar]) -> NDArray[Scalar]:
        with np.errstate(all="ignore"):
            return np.asarray(function(real.astype(np.float64)).astype(kind) * scaling)

    start = low + np.arange(512).astype(kind) * step
    here, middle = f(start), f(start + half)
    behind = f(low + np.arange(1, 513).astype(kind) * step)
    sample = _away(here)
    error = _away((behind + sample) / kind(2)) - _away(middle)
    entries = np.append(sample - _away(error / kind(2)), _away(f(np.array([high]))))
    return np.clip(entries, -(2**15), 2**15 - 1).astype(np.int64)


def _away(x: NDArray[Scalar]) -> NDArray[Scalar]:
    """Half away from zero, in the type of x."""
    whole = np.trunc(np.abs(x).astype(np.float64) + 0.5)
    return np.asarray(np.copysign(whole, x).astype(x.dtype))


def square_root(q: I64, x: QParams, y: QParams) -> I64:
    """SQRT: cut off, not rounded."""
    real = np.float32(x.scale) * (q - x.zero_point).astype(np.float32)
    steps = np.sqrt(np.maximum(real, np.float32(0))) / np.float32(y.scale)
    return np.asarray(np.trunc(steps).astype(np.int64) + y.zero_point)


def logarithm(q: I64, x: QParams, y: QParams) -> I64:
    """LOG of bytes; of what has none, the least."""
    known = np.where(q > x.zero_point, q, x.zero_point + 1)
    return np.where(q > x.zero_point, looked_up(np.log)(known, x, y), y.qmin)


def inverse_root(q: I64, x: QParams, y: QParams) -> I64:
    """RSQRT of bytes; of 0, and of what has none, the largest."""
    factor = multiplier_tflite(1 / f32(f32(math.sqrt(x.scale)) * y.scale))
    results = np.full(q.shape, y.qmax, np.int64)
    for i, t in enumerate((q - x.zero_point).tolist()):
        if t > 0:
            multiplier, shift = gemmlowp.inverse_root(t)
            root = scaled_by(np.array(1), (multiplier, shift + _ROOT_BITS))
            results[i] = y.zero_point + scaled_by(root, (factor[0], factor[1] - _ROOT_BITS))
    return results


def hard_swish(q: I64, x: QParams, y: QParams) -> I64:
    """HARD_SWISH of bytes, in 16 bits: reference/hard_swish.h.

    ValueError where the factor to the result is above 1, which the reference refuses.
    """
    fine = f32_quotient(x.scale, 1 / 128)
    (to_y, y_shift), (to_relu, relu_shift) = (
        _short(multiplier_tflite(f32_quotient(fine, by=scale)))
        for scale in (y.scale, f32_quotient(3.0, by=32768.0))
    )
    if y_shift > 0:
        raise ValueError(f"scales {x.scale} and {y.scale}; expected {fine} / {y.scale} below 1")
    t = (q - x.zero_point) << 7
    relu = t
    if relu_shift > 0:
        relu = _saturated(relu << (relu_shift - 1))
    relu = _high_product(relu, to_relu)
    if relu_shift > 0:
        relu = _saturated(relu << 1)
    elif relu_shift < 0:
        relu = rounding_divide_by_pot(relu, -relu_shift)
    gate = (relu + 2**15) >> 1
    product = gate * _high_product(t, to_y)
    cut = np.sign(product) * (np.abs(product) >> 15)
    return y.zero_point + rounding_divide_by_pot(cut, -y_shift)


def _short(fixed: Fixed) -> Fixed:
    """With a multiplier of 15 bits."""
    multiplier, shift = fixed
    return (0x7FFF if multiplier >= 0x7FFF0000 else (multiplier + 2**15) >> 16), shift


def _saturated(x: I64) -> I64:
    return np.asarray(np.clip(x, -(2**15), 2**15 - 1), np.int64)


def _high_product(a: I64, b: int) -> I64:
    """gemmlowp's of 16 bits, rounded, half up."""
    return np.asarray((a * b + 2**14) >> 15, np.int64)


_ONE_MORE = 0x800000000000000000000000000000800011009020440005C0467BAEFA7BD110
_NEAREST = np.floor(2**16 / (1 + np.exp(-np.arange(256) / 24)) + 0.5).astype(np.int64)
_ENTRIES = _NEAREST + [_ONE_MORE >> i & 1 for i in range(256)]
"""sigmoid(i / 24) in 16 bits, for the sigmoid and the tanh of 16 bits. Where a bit of _ONE_MORE is
set the reference's entry is one above the nearest integer, as its results show.
"""


def sigmoid_8(q: I64, x: QParams, y: QParams) -> I64:
    """LOGISTIC of bytes in TensorFlow Lite Micro, in steps of 2^-8: integer_ops/logistic.h.

    ValueError where the result has another scale or zero point, which its kernel does not read.
    """
    _expect_grid(y, 2.0**-8, -128)
    place, beyond = _place_q27(q, x)
    result = rounding_divide_by_pot(gemmlowp.sigmoid(place), 23) - 128
    return np.where(beyond == 0, result, np.where(beyond > 0, 127, -128))


def tanh_8(q: I64, x: QParams, y: QParams) -> I64:
    """TANH of bytes in TensorFlow Lite Micro, in steps of 2^-7: integer_ops/tanh.h.

    ValueError where the result has another scale or zero point.
    """
    _expect_grid(y, 2.0**-7, 0)
    place, beyond = _place_q27(q, x)
    result = rounding_divide_by_pot(gemmlowp.tanh(place), 24)
    return np.where(beyond == 0, result, np.where(beyond > 0, 127, -128))


def _expect_grid(y: QParams, scale: float, zero_point: int) -> None:
    if (y.scale, y.zero_point) != (scale, zero_point):
        raise ValueError(
            f"a result of scale {y.scale:g} and zero point {y.zero_point}; TensorFlow Lite Micro "
            f"has {scale:g} and {zero_point}"
        )


def _place_q27(q: I64, x: QParams) -> tuple[I64, I64]:
    """q in Q27, and the sign of those that are 15 and more away from 0, which have 0 there."""
    t = q - x.zero_point
    fraction, shift = math.frexp(x.scale * 2.0**27)
    radius = math.floor(15 * 2.0**27 / 2.0**shift)
    beyond = np.where(np.abs(t) >= radius, np.sign(t), 0)
    multiplier = math.floor(fraction * 2.0**31 + 0.5)
    return scaled_by(np.where(beyond == 0, t, 0), (multiplier, shift)), beyond


def sigmoid_16(q: I64, x: QParams, y: QParams) -> I64:
    """LOGISTIC of 16 bits, in steps of 2^-15: integer_ops/logistic.h."""
    place = _place(q, x)
    result = _interpolated(np.abs(place), 9)
    mirrored = np.where(place >= 0, result + 2**9, 2**25 - result + 2**9 - 1)
    return np.asarray(mirrored >> 10, np.int64)


def tanh_16(q: I64, x: QParams, y: QParams) -> I64:
    """TANH of 16 bits, in steps of 2^-15, as 2 sigmoid(2 x) - 1: integer_ops/tanh.h."""
    place = _place(q, x)
    result = _interpolated(np.abs(place), 8)
    mirrored = np.where(place >= 0, result - 2**23 + 2**7, -result + 2**23 + 2**7 - 1)
    return np.asarray(mirrored >> 8, np.int64)


def _place(q: I64, x: QParams) -> I64:
    """q in steps of 1 / (3 * 4096), by a factor that is cut to 15 bits."""
    factor, shift = x.scale * 4096.0 * 3.0, 0
    while factor <= 32767.0 / 2.0 and shift <= 30:
        factor, shift = factor * 2.0, shift + 1
    return np.asarray((q * int(factor) + (1 << shift >> 1)) >> shift, np.int64)


def _interpolated(place: I64, bits: int) -> I64:
    """Between the entries at multiples of 2^bits, of as many more bits; past the last, its end."""
    i, rest = place >> bits, place & ((1 << bits) - 1)
    below, above = _ENTRIES[np.minimum(i, 254)], _ENTRIES[np.minimum(i, 254) + 1]
    end = (0x7FFF << 10) if bits == 9 else (0xFFFF << 8)
    return np.asarray(np.where(i >= 255, end, (below << bits) + rest * (above - below)), np.int64)
