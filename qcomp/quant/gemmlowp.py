"""Fixed-point functions of gemmlowp, exact, in numpy: exponentials, reciprocals, sigmoid and tanh.

https://github.com/google/gemmlowp/blob/master/fixedpoint/fixedpoint.h, as the reference kernels of
TensorFlow Lite and of TensorFlow Lite Micro use it. A number Qn is an i32 of n fraction bits;
arrays are i64.
"""

from __future__ import annotations

import math

import numpy as np

from qcomp.quant.fixed_point import (
    I32,
    I64,
    INT32_MAX,
    INT32_MIN,
    multiplier_tflite,
    rounding_divide_by_pot,
)
from qcomp.quant.fixed_point import (
    saturating_rounding_doubling_high_mul as _product,
)

_DIFFERENCE_BITS = 26  # of the fraction of a difference: Q26, 5 bits before the point
# exp(-2^k) in Q31 for k from -2 on.
_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_EXP_MINUS_EIGHTH, _THIRD = 1895147668, 715827883  # Q31
RECIPROCAL_LINE = 1515870810, -1010580540  # 48/17 and -32/17 in Q29
NEWTON_STEPS = 3
_ONE_Q29 = 1 << 29
_ROOT_STEPS, _HALF_ROOT_OF_TWO = 5, 1518500250  # Q31
_SUM_BITS = 19  # of the fraction of a sum of exponentials


def exp_table(scale: float) -> I32:
    """exp(-d * scale) in Q31 for d in 0..255; 0 where d * scale is beyond 31 or so.

    The i32[256] of QSoftmax in the form TFLITE; `scale` is a float32 from 2^-26 on, below 16.
    """
    if not scale >= 2.0**-_DIFFERENCE_BITS:
        raise ValueError(f"a scale of {scale}; expected at least 2^-{_DIFFERENCE_BITS}")

    multiplier, left = multiplier_tflite(scale * 2**_DIFFERENCE_BITS)
    d = np.arange(256, dtype=np.int64)
    counted = d <= math.floor(31 * 2**_DIFFERENCE_BITS / 2**left)
    difference = -np.where(counted, d, 0) << left
    rescaled = _product(difference, multiplier)
    return np.where(counted, exp_of_negative(rescaled), 0).astype(np.int32)


def exp_of_negative(x: I64, fraction_bits: int = _DIFFERENCE_BITS) -> I64:
    """exp(x) in Q31 of x in Q26, or Q27, -2^31 < x <= 0: a polynomial for the rest of a quarter,
    times the powers exp(-2^k) of the bits above.
    """
    quarter = 1 << (fraction_bits - 2)
    rest = (x & (quarter - 1)) - quarter
    result = _exp_of_rest(_shifted_left(rest, 31 - fraction_bits))
    bits = rest - x
    for k, power in enumerate(_POWERS, start=-2):
        is_set = bits & (1 << (fraction_bits + k)) != 0
        result = np.where(is_set, _product(result, power), result)
    return np.asarray(np.where(x == 0, INT32_MAX, result), np.int64)


def _exp_of_rest(a: I64) -> I64:
    """exp(a) in Q31 for -1/4 <= a < 0: Taylor's series around -1/8, to the fourth power."""
    x = a + (1 << 28)
    x2 = _product(x, x)
    x3, x4 = _product(x2, x), _product(x2, x2)
    high = _product(rounding_divide_by_pot(x4, 2) + x3, _THIRD)
    series = x + rounding_divide_by_pot(high + x2, 1)
    return _EXP_MINUS_EIGHTH + _product(series, _EXP_MINUS_EIGHTH)


def reciprocal(total: I64) -> tuple[I64, I64]:
    """(r, k): 1 / total = r * 2^-31 * 2^-k for totals in Q19, 0 < total < 2^12.

    r in Q31 is 1 / (1 + x) of the mantissa 1 + x.
    """
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    return _shifted_left(_reciprocal_of_half(total << (31 - bits)), 1), bits - 1 - _SUM_BITS


def _reciprocal_of_half(half: I64) -> I64:
    """1 / half in Q29, half in Q31 from 1/2 on: steps of Newton's method."""
    start, slope = RECIPROCAL_LINE
    x = start + _product(half, slope)
    for _ in range(NEWTON_STEPS):
        x = x + _shifted_left(_product(x, _ONE_Q29 - _product(half, x)), 2)
    return x


def sigmoid(x: I64) -> I64:
    """1 / (1 + exp(-x)) in Q31 of x in Q27, |x| < 16: gemmlowp's `logistic`."""
    half = (exp_of_negative(-np.abs(x), 27) + (1 << 31)) >> 1
    positive = _shifted_left(_reciprocal_of_half(half), 1)
    return np.where(x > 0, positive, np.where(x < 0, INT32_MAX - positive, 1 << 30))


def tanh(x: I64) -> I64:
    """In Q31 of x in Q27, |x| < 16: (1 - e) / (1 + e) of e = exp(-2 |x|)."""
    half = (exp_of_negative(-np.abs(x), 26) + (1 << 31)) >> 1
    size = _shifted_left(_reciprocal_of_half(half) - _ONE_Q29, 2)
    return np.asarray(np.sign(x) * size, np.int64)


def _shifted_left(x: I64, bits: int) -> I64:
    return np.asarray(np.clip(x << bits, INT32_MIN, INT32_MAX), np.int64)


def inverse_root(value: int) -> tuple[int, int]:
    """(m, shift) of the form TFLITE with 1 / sqrt(value) = m * 2^(shift - 31), value >= 1.

    GetInvSqrtQuantizedMultiplierExp of the reference: five steps of Newton's method in Q28, from 1.
    """
    if value <= 1:
        return INT32_MAX, 0
    pairs = (32 - value.bit_length() - 1) // 2 - 1
    shift = 11 - pairs
    x, one = np.array(value << (2 * pairs)) >> 1, np.array(1 << 28)
    half, root = rounding_divide_by_pot(x, 1), one
    for _ in range(_ROOT_STEPS):
        cube = _shifted_left(_product(_product(root, root), root), 6)
        root = _shifted_left(_product(one + (one >> 1), root) - _product(half, cube), 3)
    multiplier = int(_product(root, _HALF_ROOT_OF_TWO))
    return (multiplier << -shift, 0) if shift < 0 else (multiplier, -shift)
