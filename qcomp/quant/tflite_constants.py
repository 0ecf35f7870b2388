"""The multipliers of TensorFlow Lite's additions and means, formed in the precision that it uses.

Scales are float32 numbers. A multiplier and its exponent are those of the form TFLITE.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.quant.fixed_point import multiplier_tflite

ADD_LEFT_SHIFT = 20  # of operands of 8 bits


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


def add_rescaled_constants(a: float, b: float, y: float) -> AddRescaledConstants:
    """Operands are brought to twice the larger scale, so that their factors are at most 1/2.

    ValueError where the factor of the sum is 1 or more, where the reference ends the program.
    """
    common = 2 * max(a, b)
    real = common / (2**ADD_LEFT_SHIFT * y)
    if real >= 1:
        raise ValueError(f"scales {a} and {b} are too large beside {y} for the sum of a' and b'")
    factors = [multiplier_tflite(x) for x in (a / common, b / common, real)]
    return AddRescaledConstants(ADD_LEFT_SHIFT, *(n for factor in factors for n in factor))


def mean_constants(x: float, y: float, count: int) -> tuple[int, int]:
    """Multiplier and shift of QReduceSum for a mean of `count` values: the quotient of the scales'
    multiplier by the count, with as many bits as that leaves.
    """
    multiplier, shift = multiplier_tflite(x / y)
    bits = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // count, shift - bits
