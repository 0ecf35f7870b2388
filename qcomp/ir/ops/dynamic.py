"""Scales that are found while the network runs: per-token and per-image dynamic quantization.

A layer is linear, so with the absolute maximum of what it reads, over some axes,

    a = max|x|;    W x + b = a * (W (x / a)) + b,

and x / a is in [-1, 1] whatever the data: its 8 bits have one scale, 1/127, that no calibration
chose. x, a and the product before it is scaled up have 16 bits.

Of a dense layer a has the last axis of x (a token), of a convolution all axes but the first (an
image). It is 0 only where x is 0, and then the result is b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import (
    NO_CLAMP,
    AxisUse,
    ClampRange,
    Op,
    Operand,
    broadcast_shapes,
    expect,
    expect_float,
)
from qcomp.ir.ops.integer import IntegerOp, expect_dtype, result_dtype
from qcomp.ir.tensor import DType, TensorId, TensorType

__all__ = ["AbsMax", "QAbsMax", "QScaleDown", "QScaleUp", "ScaleDown", "ScaleUp"]


def _reduced(x: TensorType, axes: tuple[int, ...]) -> TensorType:
    expect(len(axes) > 0, "no axes; expected those of a maximum")
    expect(list(axes) == sorted(set(axes)), f"axes {axes}; expected them once each, in order")
    expect(axes[0] >= 0 and axes[-1] < x.rank, f"axes {axes} outside rank {x.rank}")
    return x.with_shape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _expect_scale(x: TensorType, scale: TensorType) -> None:
    fits = x.rank == scale.rank and broadcast_shapes([x.shape, scale.shape]) == x.shape
    expect(fits, f"scale {scale} does not broadcast to {x}")


def _expect_bias(x: TensorType, bias: TensorType) -> None:
    expect(bias.shape == x.shape[-1:], f"bias {bias} for the last axis of {x}")


@dataclass(frozen=True, kw_only=True)
class AbsMax(Op):
    """max|x| over `axes`, which keep the extent 1."""

    mnemonic: ClassVar[str] = "abs_max"
    x = Operand(0)

    axes: tuple[int, ...]

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return (self.x, self.output)

    @property
    def of_16_bits(self) -> tuple[TensorId, ...]:
        return (self.x, self.output)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return _reduced(inputs[0], self.axes)


@dataclass(frozen=True, kw_only=True)
class ScaleDown(Op):
    """x / scale, and 0 where the scale is 0; |x| <= scale, which broadcasts to x."""

    mnemonic: ClassVar[str] = "scale_down"
    arity: ClassVar[int | None] = 2
    axis_use: ClassVar[AxisUse | None] = AxisUse.NONE
    x = Operand(0)
    scale = Operand(1)

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return self.inputs

    @property
    def of_16_bits(self) -> tuple[TensorId, ...]:
        return self.inputs

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        _expect_scale(*inputs)
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class ScaleUp(Op):
    """clamp(x * scale + bias); the scale broadcasts to x, bias [N] is constant."""

    mnemonic: ClassVar[str] = "scale_up"
    arity: ClassVar[int | None] = 3
    axis_use: ClassVar[AxisUse | None] = AxisUse.LAST
    constant_operands: ClassVar[tuple[int, ...]] = (2,)
    x = Operand(0)
    scale = Operand(1)
    bias = Operand(2)

    clamp: ClampRange = NO_CLAMP

    @property
    def of_16_bits(self) -> tuple[TensorId, ...]:
        return (self.x, self.scale)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        x, scale, bias = inputs
        _expect_scale(x, scale)
        _expect_bias(x, bias)
        return x


@dataclass(frozen=True, kw_only=True)
class QAbsMax(IntegerOp):
    """min(max|x|, 32767) over `axes`, i16; x is i16 with the same scale."""

    mnemonic: ClassVar[str] = "q_abs_max"
    x = Operand(0)

    axes: tuple[int, ...]

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return (self.x, self.output)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_dtype(inputs[0], DType.I16)
        return _reduced(inputs[0], self.axes)


@dataclass(frozen=True, kw_only=True)
class QScaleDown(IntegerOp):
    """127 x / scale to i8 in [-127, 127], where the scale is what QAbsMax gave for x.

    With a = max(scale, 1), j the number for which m = a << j is in [2^14, 2^15), and

        r = (127 * 2^22 + m / 2) // m                 one division of 32 bits for each scale
        q = ((x << j) * r + 2^21) >> 22

    16256 <= r <= 32512, |x << j| < 2^15 and |q - 127 x / a| < .505: nothing saturates.
    """

    mnemonic: ClassVar[str] = "q_scale_down"
    arity: ClassVar[int | None] = 2
    x = Operand(0)
    scale = Operand(1)

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return self.inputs

    def result_type(self, *inputs: TensorType) -> TensorType:
        for t in inputs:
            expect_dtype(t, DType.I16)
        _expect_scale(*inputs)
        return inputs[0].with_dtype(DType.I8)


@dataclass(frozen=True, kw_only=True)
class QScaleUp(IntegerOp):
    """sat((x * scale + bias) >> shift), to `bits` bits; x and scale are i16, bias i32 [N].

    The bias has the result's zero point and the half step that rounds in it; scale >= 0.
    """

    mnemonic: ClassVar[str] = "q_scale_up"
    arity: ClassVar[int | None] = 3
    constant_operands: ClassVar[tuple[int, ...]] = (2,)
    x = Operand(0)
    scale = Operand(1)
    bias = Operand(2)

    shift: int
    qmin: int
    qmax: int
    bits: int = 8

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, scale, bias = inputs
        for t in (x, scale):
            expect_dtype(t, DType.I16)
        expect_dtype(bias, DType.I32)
        _expect_scale(x, scale)
        _expect_bias(x, bias)
        expect(0 <= self.shift <= 30, f"shift={self.shift}; expected 0 to 30")
        limit = 1 << (self.bits - 1)
        expect(
            -limit <= self.qmin <= self.qmax < limit,
            f"saturation [{self.qmin}, {self.qmax}] is not within i{self.bits}",
        )
        return x.with_dtype(result_dtype(self.bits, 0))
