"""The multipliers of TensorFlow Lite's operators, each formed in the precision that it uses.

Scales are float32 numbers. A multiplier and its exponent are those of the form TFLITE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import INT32_MAX, multiplier_tflite

ADD_LEFT_SHIFT = {8: 20, 16: 15}  # of operands, by their bits

F64 = NDArray[np.float64]
Fixed = tuple[int, int]


def f32(x: float) -> float:
    """Rounded once to float32."""
    return float(np.float32(x))


def product_factors(x: float, weight: F64, y: float, *, in_float32: bool) -> F64:
    """scale_x * scale_weight / scale_y of each channel in float64, or with the product in float32,
    as where activations are bytes without a sign.
    """
    product = x * weight
    if in_float32:
        product = product.astype(np.float32).astype(np.float64)
    return np.asarray(product / y)


def f32_quotient(*factors: float, by: float = 1.0) -> float:
    """A product over a scale, every step in float32, from left to right."""
    product = factors[0]
    for factor in factors[1:]:
        product = f32(product * factor)
    return f32(product / by)


def f64_quotient(*factors: float, by: float = 1.0) -> float:
    """As f32_quotient, in float64."""
    return math.prod(factors) / by


def round_away(x: float) -> int:
    """Half away from zero."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def signed_multiplier(real: float) -> Fixed:
    """Of a factor that may be negative."""
    multiplier, shift = multiplier_tflite(abs(real))
    return (-multiplier if real < 0 else multiplier), shift


def short_multiplier(multiplier: int, shift: int) -> Fixed:
    """(m, shift) of the form WIDE, m of 15 bits: sums of 64 bits are rounded once, half up."""
    m = (multiplier + 2**15) >> 16 if multiplier < INT32_MAX - 0xFFFF else 0x7FFF
    return m, 15 - shift


@dataclass(frozen=True)
class AddRescaledConstants:
    """The constants of QAddRescaled, by the names of its fields."""

    left_shift: int
    a_multiplier: int
    a_shift: int
    b_multiplier: int
    b_shift: int
    multiplier: int
    shift: int


def add_rescaled_constants(a: float, b: float, y: float, bits: int = 8) -> AddRescaledConstants:
    """Operands are brought to twice the larger scale, so that their factors are at most 1/2.

    ValueError where the factor of the sum is 1 or more, where the reference ends the program.
    """
    left_shift = ADD_LEFT_SHIFT[bits]
    common = 2 * max(a, b)
    real = common / (2**left_shift * y)
    if real >= 1:
        raise ValueError(f"scales {a} and {b} are too large beside {y} for the sum of a' and b'")
    factors = [multiplier_tflite(x) for x in (a / common, b / common, real)]
    return AddRescaledConstants(left_shift, *(n for factor in factors for n in factor))


def mean_constants(x: float, y: float, count: int) -> Fixed:
    """Multiplier and shift of QReduceSum for a mean of `count` values: the quotient of the scales'
    multiplier by the count, with as many bits as that leaves.
    """
    multiplier, shift = multiplier_tflite(x / y)
    bits = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // count, shift - bits
