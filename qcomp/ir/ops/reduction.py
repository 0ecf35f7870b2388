"""Ops that combine many values: pooling, reductions, softmax, argmax."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Domain, Op, Operand, expect, expect_float, window_size
from qcomp.ir.ops.linear import Padding, Pair
from qcomp.ir.tensor import DType, TensorType


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


class Reduction(enum.Enum):
    """What a Reduce computes."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    MIN = "min"


def reduced_shape(x: TensorType, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    expect(len(set(axes)) == len(axes), f"axes {axes} repeat")
    expect(all(0 <= a < x.rank for a in axes), f"axes {axes} outside rank {x.rank}")
    if keepdims:
        return tuple(1 if i in axes else e for i, e in enumerate(x.shape))
    return tuple(e for i, e in enumerate(x.shape) if i not in axes)


@dataclass(frozen=True, kw_only=True)
class Reduce(Op):
    """Mean, sum, max or min over `axes` (non-negative); global pooling is a Reduce over (1, 2)."""

    mnemonic: ClassVar[str] = "reduce"
    x = Operand(0)

    kind: Reduction
    axes: tuple[int, ...]
    keepdims: bool = True

    @property
    def copies_integers(self) -> bool:
        return self.kind in (Reduction.MAX, Reduction.MIN)

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect_float(x)
        return x.with_shape(reduced_shape(x, self.axes, self.keepdims))


@dataclass(frozen=True, kw_only=True)
class Softmax(Op):
    """exp(x - max) / sum along one axis (non-negative)."""

    mnemonic: ClassVar[str] = "softmax"
    x = Operand(0)

    axis: int

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect_float(x)
        expect(0 <= self.axis < x.rank, f"axis {self.axis} outside rank {x.rank}")
        return x


@dataclass(frozen=True, kw_only=True)
class LogSoftmax(Softmax):
    """x - max - log(sum(exp(x - max))) along one axis."""

    mnemonic: ClassVar[str] = "log_softmax"


@dataclass(frozen=True, kw_only=True)
class ArgMax(Op):
    """Index of the largest value along one axis, i32; the first one (or the last) on ties."""

    mnemonic: ClassVar[str] = "argmax"
    domain: ClassVar[Domain] = Domain.ANY
    x = Operand(0)

    axis: int
    keepdims: bool = True
    last: bool = False

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        shape = reduced_shape(x, (self.axis,), self.keepdims)
        return TensorType(DType.I32, shape)
