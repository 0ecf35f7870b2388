"""Pooling windows over NHWC, of floats and of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import AxisUse, Domain, Op, Operand, expect, expect_float, window_size
from qcomp.ir.ops.integer import Requantized, requantized_dtype
from qcomp.ir.ops.linear import Padding, Pair
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Requantize

__all__ = ["AveragePool2d", "MaxPool2d", "QAveragePool2d"]


def pool_shape(
    x: TensorType, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> tuple[int, ...]:
    """Result shape of a pooling window over NHWC."""
    expect(x.rank == 4, f"expected NHWC, got {x}")
    n, h, w, c = x.shape
    top, left, bottom, right = padding
    expect(min(padding) >= 0, f"negative padding {padding}")
    return (
        n,
        window_size(h, kernel[0], stride[0], dilation[0], top, bottom),
        window_size(w, kernel[1], stride[1], dilation[1], left, right),
        c,
    )


@dataclass(frozen=True, kw_only=True)
class MaxPool2d(Op):
    """Largest value of each window; padding never wins. NHWC; result has the input's scale."""

    mnemonic: ClassVar[str] = "max_pool2d"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL
    domain: ClassVar[Domain] = Domain.ANY
    x = Operand(0)

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    @property
    def copies_integers(self) -> bool:
        return True

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        return x.with_shape(pool_shape(x, self.kernel, self.stride, self.padding, self.dilation))


@dataclass(frozen=True, kw_only=True)
class AveragePool2d(Op):
    """Mean of each window, NHWC; padding counts as zeros or not at all."""

    mnemonic: ClassVar[str] = "average_pool2d"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL
    x = Operand(0)

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    count_include_pad: bool = False

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect_float(x)
        return x.with_shape(pool_shape(x, self.kernel, self.stride, self.padding, self.dilation))


@dataclass(frozen=True, kw_only=True)
class QAveragePool2d(Requantized):
    """requantize(sum over the window of (x - x_zero_point)); multiplier [KH * KW + 1] by the count
    of positions that are averaged over (all of them with count_include_pad), one shift.

    In the form QUOTIENT the multipliers are the counts themselves: a mean that keeps the scale.
    TensorFlow Lite's is that of x itself, with both zero points 0 here.
    """

    mnemonic: ClassVar[str] = "q_average_pool2d"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    multiplier = Operand(1)

    x_zero_point: int
    shift: int
    requantize: Requantize
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    count_include_pad: bool = False

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, multiplier = inputs
        expect(
            multiplier == TensorType(DType.I32, (self.kernel[0] * self.kernel[1] + 1,)),
            f"expected a multiplier for each count, got {multiplier}",
        )
        shape = pool_shape(x, self.kernel, self.stride, self.padding, self.dilation)
        return TensorType(requantized_dtype(self.requantize, x, sums=True), shape)
