"""Constant tables of the non-linear integer ops: float64 rounded once, half to even."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import I32, I64
from qcomp.quant.qparams import INTEGERS, QParams

F64 = NDArray[np.float64]

_LOG_BOUND = 16 * math.log(2)  # the largest magnitude in log_table, in nats
_MIN_LOG_SHIFT = 8


def unary_table(function: Callable[[F64], F64], x: QParams, y: QParams) -> NDArray[np.integer]:
    """The i8[256] or i16[256] of Table: entry v + 128 is the quantized function of v's value.

    Infinities saturate. NaN (a function outside its domain, such as the logarithm of a negative
    number) becomes y's zero point: such inputs have no right answer, and zero is the least harmful.
    """
    real = x.scale * (np.arange(-128, 128, dtype=np.float64) - x.zero_point)
    with np.errstate(all="ignore"):
        steps = np.rint(np.asarray(function(real), np.float64) / y.scale)
    steps = np.nan_to_num(steps, nan=0.0, posinf=np.inf, neginf=-np.inf)
    saturated = np.clip(steps + y.zero_point, y.qmin, y.qmax)
    table: NDArray[np.integer] = saturated.astype(INTEGERS[y.bits])
    return table


def exp_table(scale: float) -> I32:
    """exp(-d * scale) in Q16 for d in 0..255: what QSoftmax and QLogSoftmax sum up."""
    _expect_scale(scale)
    exponentials = np.exp(-scale * np.arange(256, dtype=np.float64))
    return np.rint(2.0**16 * exponentials).astype(np.int32)


def exp_table_16(scale: float) -> I32:
    """The i32[2 * 256] of the softmaxes of an i16: exp(-d * scale) in Q30 for d in 0..255, then
    for 256 * d; their product is the exponential of any difference of two i16.
    """
    _expect_scale(scale)
    d = np.arange(256, dtype=np.float64)
    exponents = -scale * np.concatenate([d, 256 * d])
    return np.rint(2.0**30 * np.exp(exponents)).astype(np.int32)


def log_table(units_per_nat: float) -> I32:
    """The i32[32 + 257] of QLogSoftmax: logarithms of 2^(n - 16), then of 1 + i / 256."""
    _expect_scale(units_per_nat)
    if units_per_nat * _LOG_BOUND > 2**31 - 1:
        raise ValueError(f"{units_per_nat} units per nat do not fit 32 bits")
    exponents = math.log(2) * (np.arange(32, dtype=np.float64) - 16)
    mantissas = np.log1p(np.arange(257, dtype=np.float64) / 256)
    return np.rint(units_per_nat * np.concatenate([exponents, mantissas])).astype(np.int32)


def log_softmax_constants(x_scale: float, y_scale: float) -> tuple[int, int, float]:
    """(multiplier, shift, units_per_nat) of QLogSoftmax, shift <= 30 as large as possible.

    No sum leaves i32: x - max is in [-255, 0] and |log(S)| <= 16 * ln(2) * U, so with
    U = 2^shift / y_scale and multiplier <= U * x_scale + 1/2 the largest magnitude is at most
    255 * (U * x_scale + 1/2) + 16 * ln(2) * U + 2 (roundings of the table) + 2^(shift-1) < 2^31.
    The rounded multiplier moves the result by at most 255/2 * 2^-shift steps, hence shift >= 8.
    """
    _expect_scale(x_scale)
    _expect_scale(y_scale)
    for shift in range(30, _MIN_LOG_SHIFT - 1, -1):
        units = 2.0**shift / y_scale
        bound = 255 * (units * x_scale + 0.5) + _LOG_BOUND * units + 2 + 2.0 ** (shift - 1)
        if bound < 2**31:
            return round(units * x_scale), shift, units
    raise ValueError(
        f"log-softmax from scale {x_scale} to scale {y_scale} does not fit 32 bits; "
        "expected a larger output scale"
    )


def log_table_16(units_per_nat: float, fraction_bits: int) -> I64:
    """The i64[48 + 257] of QLogSoftmax with i16: logarithms of 2^(n - fraction_bits), then of
    1 + i / 256. The sum of exponentials is in Q16 for an i8 and in Q30 for an i16.
    """
    _expect_scale(units_per_nat)
    exponents = math.log(2) * (np.arange(48, dtype=np.float64) - fraction_bits)
    mantissas = np.log1p(np.arange(257, dtype=np.float64) / 256)
    return np.rint(units_per_nat * np.concatenate([exponents, mantissas])).astype(np.int64)


def log_softmax_constants_16(x_scale: float, y_scale: float) -> tuple[int, int, float]:
    """(multiplier, shift, units_per_nat) of QLogSoftmax with i16, shift <= 30 as large as possible.

    As above, with x - max >= -65535 and |log(S)| < 32 * ln(2) * U: below 2^62 nothing leaves i64.
    """
    _expect_scale(x_scale)
    _expect_scale(y_scale)
    for shift in range(30, _MIN_LOG_SHIFT - 1, -1):
        units = 2.0**shift / y_scale
        if 65535 * (units * x_scale + 0.5) + 2 * _LOG_BOUND * units < 2**62:
            return round(units * x_scale), shift, units
    raise ValueError(
        f"log-softmax from scale {x_scale} to scale {y_scale} does not fit 64 bits; "
        "expected a larger output scale"
    )


def _expect_scale(scale: float) -> None:
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"a scale must be positive and finite, not {scale}")
