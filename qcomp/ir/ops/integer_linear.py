"""Integer ops with weights or sums of products: convolution, dense, matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Operand, expect
from qcomp.ir.ops.integer import Requantized, expect_dtype, requantized_dtype
from qcomp.ir.ops.linear import Padding, Pair, convolution_shape, dense_shape, matmul_shape
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.fixed_point import Form, Requantize

__all__ = ["QConv2d", "QDense", "QMatMul", "QWeighted"]


def accumulated_dtype(inputs: tuple[TensorType, ...], q: Requantize) -> DType:
    """The result's element type from the types of (x, weight, bias, multiplier, shift) and, where
    there is one, the weight's zero point.

    The accumulator has the type of the bias: i32, or i64 where 16-bit operands need it and where x
    is i32.
    """
    expect(len(inputs) in (5, 6), f"expected 5 or 6 operands, got {len(inputs)}")
    x, weight, bias, multiplier, shift, *zero_point = inputs
    expect_dtype(weight, DType.I8)
    expect(
        bias.dtype is DType.I64
        if x.dtype is DType.I32
        else bias.dtype is DType.I32 or (bias.dtype is DType.I64 and x.dtype is DType.I16),
        f"expected a bias i32, or i64 where x is i16 (and where it is i32), got {bias}",
    )
    expect_dtype(multiplier, DType.I64 if q.form is Form.AWAY else DType.I32)
    expect_dtype(shift, DType.I32)
    for t in (bias, multiplier, shift):
        expect(t.shape == weight.shape[:1], f"{t} for {weight.shape[0]} channels")
    for t in zero_point:
        expect_dtype(t, DType.I8)
        expect(t.shape in ((1,), weight.shape[:1]), f"{t} for {weight.shape[0]} channels")
    return requantized_dtype(q, x, sums=True)


@dataclass(frozen=True, kw_only=True)
class QWeighted(Requantized):
    """Base of the layers:

        requantize(sum((weight - weight_zero_point) * (x - x_zero_point)) + bias), weights i8

    bias is [O], i32 or, with an x of i16 where it needs it and of i32 always, i64: its type is the
    accumulator's. multiplier and shift are i32 [O], the multiplier of the form AWAY i64; the zero
    point of the weights, which may be left out, is i8, [O] or [1] for all. Axis 0 of the weight is
    the output channel.
    """

    arity: ClassVar[int | None] = None
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5)
    x = Operand(0)
    weight = Operand(1)
    bias = Operand(2)
    multiplier = Operand(3)
    shift = Operand(4)

    x_zero_point: int
    requantize: Requantize

    @property
    def weight_zero_point(self) -> TensorId | None:
        """The operand; None where weights are symmetric."""
        return self.inputs[5] if len(self.inputs) == 6 else None

    @property
    def groups(self) -> int:
        """How many groups of channels have weights of their own."""
        return 1


@dataclass(frozen=True, kw_only=True)
class QConv2d(QWeighted):
    """Convolution; x NHWC, weight OHWI. Padding has the value x_zero_point, so it adds nothing."""

    mnemonic: ClassVar[str] = "q_conv2d"
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def result_type(self, *inputs: TensorType) -> TensorType:
        dtype = accumulated_dtype(inputs, self.requantize)
        x, weight = inputs[:2]
        shape = convolution_shape(x, weight, self.stride, self.padding, self.dilation, self.groups)
        return TensorType(dtype, shape)


@dataclass(frozen=True, kw_only=True)
class QDense(QWeighted):
    """(x - x_zero_point) @ weight.T over the last axis; x [..., K], weight [N, K]."""

    mnemonic: ClassVar[str] = "q_dense"

    def result_type(self, *inputs: TensorType) -> TensorType:
        dtype = accumulated_dtype(inputs, self.requantize)
        return TensorType(dtype, dense_shape(*inputs[:3]))


@dataclass(frozen=True, kw_only=True)
class QMatMul(Requantized):
    """requantize((a - a_zero_point) @ (b - b_zero_point)), leading axes broadcast."""

    mnemonic: ClassVar[str] = "q_matmul"
    arity: ClassVar[int | None] = 2
    a = Operand(0)
    b = Operand(1)

    a_zero_point: int
    b_zero_point: int
    multiplier: int
    shift: int
    requantize: Requantize

    def result_type(self, *inputs: TensorType) -> TensorType:
        return TensorType(requantized_dtype(self.requantize, *inputs), matmul_shape(*inputs))
