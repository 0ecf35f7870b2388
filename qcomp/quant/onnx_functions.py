"""What ONNX Runtime computes of integers, each step in float32.

DequantizeLinear is f32(scale * (q - zero_point)), QuantizeLinear rounds f32(x / scale) half to
even. The quantized operators of the domain com.microsoft have formulas of their own; what is here
equals ONNX Runtime 1.31 on x86 in every pair of bytes of 60 random sets of scales.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.qparams import QParams

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]

BYTES = np.arange(-128, 128)
_UNSIGNED = 128  # how much more a file's bytes without a sign are than ours


def dequantized(integers: NDArray[np.integer], q: QParams) -> F32:
    return np.asarray(np.float32(q.scale) * (integers - q.zero_point).astype(np.float32))


def quantized(values: F32, q: QParams, low: int, high: int) -> I8:
    """Saturated to [low, high]; what is not a number is the zero point."""
    with np.errstate(all="ignore"):
        steps = np.rint(values / np.float32(q.scale))
    steps = np.clip(np.nan_to_num(steps, nan=0.0), -1024.0, 1024.0)
    return np.asarray(np.clip(steps.astype(np.int64) + q.zero_point, low, high), np.int8)


def factor_bits(*factors: float, by: float = 1.0) -> int:
    """The bits of a product over a scale, every step in float32, from left to right."""
    product = np.float32(factors[0])
    for factor in factors[1:]:
        product = product * np.float32(factor)
    return int((product / np.float32(by)).view(np.int32))


def layer_factor_bits(x: float, weight: NDArray[np.float64], y: float) -> NDArray[np.int32]:
    """f32(f32(x * weight) / y) of each channel, as bits: the multipliers of the form ONNX."""
    products = np.float32(x) * weight.astype(np.float32)
    return np.asarray((products / np.float32(y)).view(np.int32))


def table(function: Callable[[F32], F32], x: QParams, y: QParams, low: int, high: int) -> I8:
    """i8 [256]: a function of a dequantized byte, quantized."""
    with np.errstate(all="ignore"):
        values = function(dequantized(BYTES, x)).astype(np.float32)
    return quantized(values, y, low, high)


Pairs = Callable[[F32, F32], F32]


def pair_table(function: Pairs, a: QParams, b: QParams, y: QParams, low: int, high: int) -> I8:
    """i8 [65536]: a function of two dequantized bytes, quantized."""
    with np.errstate(all="ignore"):
        values = function(dequantized(BYTES, a)[:, None], dequantized(BYTES, b)[None, :])
    return quantized(values.astype(np.float32), y, low, high).reshape(-1)


def sum_table(a: QParams, b: QParams, y: QParams, low: int, high: int, *, unsigned: bool) -> I8:
    """QLinearAdd: rint(fma(a, ra, fma(b, rb, K))), ra = f32(sa / sy), with

    K = f32(zy - fma(ra, za, f32(rb * zb))), of the file's bytes, `unsigned` or not. fma rounds
    once: that is the library on x86 processors with AVX2; on others it rounds otherwise.
    """
    more = _UNSIGNED if unsigned else 0
    ra, rb = (np.float32(q.scale) / np.float32(y.scale) for q in (a, b))
    za, zb, zy = (np.float32(q.zero_point + more) for q in (a, b, y))
    constant = zy - _fused(ra, za, rb * zb)
    integers = (BYTES + more).astype(np.float32)
    sums = _fused(integers[:, None], ra, _fused(integers, rb, constant)[None, :])
    steps = np.rint(np.clip(sums, -1024.0, 1024.0)).astype(np.int64) - more
    return np.asarray(np.clip(steps, low, high).astype(np.int8).reshape(-1))


def _fused(a: F32 | np.float32, b: np.float32, c: F32 | np.float32) -> Any:
    """f32(a * b + c) of a factor of 8 bits, whose product with 24 bits float64 holds."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


def product_table(a: QParams, b: QParams, y: QParams, low: int, high: int) -> I8:
    """QLinearMul: rint(f32((a - za) * (b - zb) * f32(f32(sa * sb) / sy))) + zy."""
    factor = np.float32(a.scale) * np.float32(b.scale) / np.float32(y.scale)
    terms = [(BYTES - q.zero_point).astype(np.float32) for q in (a, b)]
    steps = np.rint(np.clip(terms[0][:, None] * terms[1][None, :] * factor, -1024.0, 1024.0))
    whole = steps.astype(np.int64) + y.zero_point
    return np.asarray(np.clip(whole, low, high).astype(np.int8).reshape(-1))
