"""Ops with weights: convolution, dense, matrix product, batch normalisation."""

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
    window_size,
)
from qcomp.ir.tensor import TensorType

__all__ = ["BatchNorm", "Conv2d", "Dense", "MatMul", "Weighted"]

Padding = tuple[int, int, int, int]  # top, left, bottom, right
Pair = tuple[int, int]  # vertical, horizontal


def convolution_shape(
    x: TensorType, weight: TensorType, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> tuple[int, ...]:
    """Result shape of a convolution, x in NHWC, weight in OHWI (I is channels / groups)."""
    expect(x.rank == 4 and weight.rank == 4, f"expected NHWC and OHWI, got {x} and {weight}")
    n, h, w, c = x.shape
    o, kh, kw, i = weight.shape
    expect(groups >= 1 and i * groups == c, f"{c} input channels are not {groups} groups of {i}")
    expect(o % groups == 0, f"{o} output channels are not a multiple of groups={groups}")
    top, left, bottom, right = padding
    expect(min(padding) >= 0, f"negative padding {padding}")
    return (
        n,
        window_size(h, kh, stride[0], dilation[0], top, bottom),
        window_size(w, kw, stride[1], dilation[1], left, right),
        o,
    )


@dataclass(frozen=True, kw_only=True)
class Weighted(Op):
    """Base of the layers: clamp(sum(weight * x) + bias), weights constant, bias [O].

    Axis 0 of the weight is the output channel, its last axis the input channel of a group.
    """

    arity: ClassVar[int | None] = 3
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2)
    x = Operand(0)
    weight = Operand(1)
    bias = Operand(2)

    clamp: ClampRange = NO_CLAMP

    @property
    def groups(self) -> int:
        """How many groups of channels have weights of their own."""
        return 1


@dataclass(frozen=True, kw_only=True)
class Conv2d(Weighted):
    """Convolution and clamp; x in NHWC, weight in OHWI, bias [O]."""

    mnemonic: ClassVar[str] = "conv2d"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL

    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, weight, bias = inputs
        expect_float(*inputs)
        shape = convolution_shape(x, weight, self.stride, self.padding, self.dilation, self.groups)
        expect(bias.shape == (weight.shape[0],), f"bias {bias} for {weight.shape[0]} channels")
        return x.with_shape(shape)


@dataclass(frozen=True, kw_only=True)
class Dense(Weighted):
    """x @ weight.T + bias over the last axis, and clamp; x [..., K], weight [N, K], bias [N]."""

    mnemonic: ClassVar[str] = "dense"
    axis_use: ClassVar[AxisUse | None] = AxisUse.LAST

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, weight, bias = inputs
        expect_float(*inputs)
        return x.with_shape(dense_shape(x, weight, bias))


def dense_shape(x: TensorType, weight: TensorType, bias: TensorType) -> tuple[int, ...]:
    expect(x.rank >= 1 and weight.rank == 2, f"expected [..., K] and [N, K], got {x}, {weight}")
    expect(x.shape[-1] == weight.shape[1], f"{x} does not match weight {weight}")
    expect(bias.shape == (weight.shape[0],), f"bias {bias} for {weight.shape[0]} outputs")
    return (*x.shape[:-1], weight.shape[0])


@dataclass(frozen=True, kw_only=True)
class MatMul(Op):
    """Product of two activations, a [..., M, K] @ b [..., K, N], leading axes broadcast."""

    mnemonic: ClassVar[str] = "matmul"
    axis_use: ClassVar[AxisUse | None] = AxisUse.LAST_TWO
    arity: ClassVar[int | None] = 2
    a = Operand(0)
    b = Operand(1)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return inputs[0].with_shape(matmul_shape(*inputs))


def matmul_shape(a: TensorType, b: TensorType) -> tuple[int, ...]:
    expect(a.rank >= 2 and b.rank >= 2, f"expected matrices, got {a} and {b}")
    expect(a.shape[-1] == b.shape[-2], f"inner sizes of {a} and {b} differ")
    return (*broadcast_shapes([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1])


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Op):
    """gamma * (x - mean) / sqrt(var + eps) + beta over the last axis; parameters [C]."""

    mnemonic: ClassVar[str] = "batch_norm"
    axis_use: ClassVar[AxisUse | None] = AxisUse.LAST
    arity: ClassVar[int | None] = 5
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    x = Operand(0)
    gamma = Operand(1)
    beta = Operand(2)
    mean = Operand(3)
    var = Operand(4)

    eps: float = 1e-5

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, *parameters = inputs
        expect_float(*inputs)
        for p in parameters:
            expect(p.shape == (x.shape[-1],), f"parameter {p} for {x.shape[-1]} channels")
        return x
