"""Normalisation by the moments of groups of values, of floats and of integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import (
    NO_CLAMP,
    ClampRange,
    Op,
    Operand,
    broadcast_shapes,
    expect,
    expect_activation,
    expect_float,
)
from qcomp.ir.ops.integer import IntegerOp, expect_dtype, result_dtype
from qcomp.ir.tensor import DType, TensorType

__all__ = ["Normalize", "QNormalize"]

ROOTS = 192
"""Entries of the table of inverse roots."""


def _expect_groups(x: TensorType, axes: tuple[int, ...], *parameters: TensorType) -> None:
    """What both ops want of their axes and of the parameters that broadcast to x."""
    expect(len(axes) > 0, "no axes; expected those of a group")
    expect(list(axes) == sorted(set(axes)), f"axes {axes}; expected them once each, in order")
    expect(axes[0] >= 0 and axes[-1] < x.rank, f"axes {axes} outside rank {x.rank}")
    for t in parameters:
        fits = broadcast_shapes([x.shape, t.shape]) == x.shape
        expect(fits, f"parameters {t} do not broadcast to {x}")


@dataclass(frozen=True, kw_only=True)
class Normalize(Op):
    """clamp(gamma * z + beta), z = d / sqrt(max(mean(d^2) + epsilon, least)), groups over `axes`.

    d = x - mean(x) where `centered` (layer, group and instance normalisation), else x (RMS and L2:
    the root of a sum is that of a mean with another gamma). Where the root is 0, z is 0. gamma and
    beta are constants that broadcast to x.

    reach: beyond this |z| integers may saturate; infinite where nothing is known of the data.
    """

    mnemonic: ClassVar[str] = "normalize"
    arity: ClassVar[int | None] = 3
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2)
    x = Operand(0)
    gamma = Operand(1)
    beta = Operand(2)

    axes: tuple[int, ...]
    centered: bool
    epsilon: float
    least: float = 0.0
    reach: float = math.inf
    clamp: ClampRange = NO_CLAMP

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        _expect_groups(inputs[0], self.axes, *inputs[1:])
        expect(self.epsilon >= 0.0, f"epsilon={self.epsilon}; expected 0 or more")
        expect(self.least >= 0.0, f"least={self.least}; expected 0 or more")
        expect(self.reach > 0.0, f"reach={self.reach}; expected more than 0")
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class QNormalize(IntegerOp):
    """sat((w * gamma + beta) >> shift), with w = 2^precision * d / sqrt(V) of a group over `axes`:

        c = (sum(x) * mean_multiplier + 2^(mean_shift-1)) >> mean_shift     where `centered`,
            else x_zero_point << fraction_bits
        d = (x << fraction_bits) - c;   V = max(sum(d^2) + added, least)
        R, n = inverse_root(V): R * 2^(n - 46) is close to 1 / sqrt(V)
        k = 31 - n - precision;   t = sat17((d + 2^(k-1)) >> k), or of d << -k
        w = (t * R + 2^14) >> 15

    sat17 saturates to [-65535, 65535]. roots i32 [192] is the table of qcomp.quant.inverse_root.
    gamma i16 and beta i32 broadcast to x; beta has the result's zero point and the half step that
    rounds in it. Sums have 64 bits, and certify-accumulators proves that V < 2^63 and that d, t and
    w * gamma + beta fit 32 bits.
    """

    mnemonic: ClassVar[str] = "q_normalize"
    arity: ClassVar[int | None] = 4
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2, 3)
    x = Operand(0)
    roots = Operand(1)
    gamma = Operand(2)
    beta = Operand(3)

    axes: tuple[int, ...]
    centered: bool
    x_zero_point: int
    fraction_bits: int
    mean_multiplier: int
    mean_shift: int
    added: int
    least: int
    precision: int
    shift: int
    qmin: int
    qmax: int
    bits: int = 8

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, roots, gamma, beta = inputs
        expect_activation(x)
        expected = TensorType(DType.I32, (ROOTS,))
        expect(roots == expected, f"expected inverse roots {expected}, got {roots}")
        expect_dtype(gamma, DType.I16)
        expect_dtype(beta, DType.I32)
        _expect_groups(x, self.axes, gamma, beta)
        expect(gamma.shape == beta.shape, f"gamma {gamma} and beta {beta} differ in shape")
        for name, value, least, most in (
            ("fraction_bits", self.fraction_bits, 0, 8),
            ("mean_shift", self.mean_shift, 0, 62),
            ("added", self.added, 0, 2**62),
            ("least", self.least, 1, 2**62),
            ("precision", self.precision, 0, 23),
            ("shift", self.shift, 0, 30),
        ):
            expect(least <= value <= most, f"{name}={value}; expected {least} to {most}")
        limit = 1 << (self.bits - 1)
        expect(
            -limit <= self.qmin <= self.qmax < limit,
            f"saturation [{self.qmin}, {self.qmax}] is not within i{self.bits}",
        )
        return x.with_dtype(result_dtype(self.bits, 0))
