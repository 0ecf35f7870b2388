"""Integer ops whose scale is known only when the network runs: it is a tensor, not a parameter.

A scale tensor is i32 [2], (mantissa, shift), and stands for the positive number

    r = mantissa * 2^-shift,    2^30 <= mantissa < 2^31

A tensor that QuantizeBy makes has no qparams. Its step is r steps of the tensor that was quantized,
its zero point is 0, and only movements and QDenseBy read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Operand, expect, expect_activation
from qcomp.ir.ops.integer import IntegerOp, Requantized, expect_dtype, requantized_dtype
from qcomp.ir.ops.linear import dense_shape
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize

__all__ = ["QDenseBy", "QuantizeBy", "ScaleOf"]

SCALE = TensorType(DType.I32, (2,))


@dataclass(frozen=True, kw_only=True)
class ScaleOf(IntegerOp):
    """The scale at which the largest |x - x_zero_point| of a tensor is 127.

    With n = max(|x - x_zero_point|, 1), the shift is the largest at which the mantissa is below
    2^31, and mantissa = (n << shift) // 127.
    """

    mnemonic: ClassVar[str] = "scale_of"
    x = Operand(0)

    x_zero_point: int

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_activation(*inputs)
        return SCALE


@dataclass(frozen=True, kw_only=True)
class QuantizeBy(IntegerOp):
    """(x - x_zero_point) / r to i8 in [-127, 127], rounded half away from zero.

    d = |x - x_zero_point| << shift;  |q| = min((2 d + mantissa) // (2 mantissa), 127)
    """

    mnemonic: ClassVar[str] = "quantize_by"
    arity: ClassVar[int | None] = 2
    x = Operand(0)
    scale = Operand(1)

    x_zero_point: int

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, scale = inputs
        expect_activation(x)
        expect(scale == SCALE, f"expected a scale {SCALE}, got {scale}")
        return x.with_dtype(DType.I8)


@dataclass(frozen=True, kw_only=True)
class QDenseBy(Requantized):
    """Dense layer without a bias on what QuantizeBy gave; x [..., K] i8, weight [N, K] i8.

    With multiplier and shift (i32 [N]) for r = 1, the requantize has for each channel

        multiplier' = (multiplier * mantissa) >> 31;  shift' = shift + scale shift - 31

    so that its factor is multiplier * 2^-shift * r. A bias is a sum behind it.
    """

    mnemonic: ClassVar[str] = "q_dense_by"
    arity: ClassVar[int | None] = 5
    constant_operands: ClassVar[tuple[int, ...]] = (1, 3, 4)
    x = Operand(0)
    weight = Operand(1)
    scale = Operand(2)
    multiplier = Operand(3)
    shift = Operand(4)

    requantize: Requantize

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, weight, scale, multiplier, shift = inputs
        for t in (x, weight):
            expect_dtype(t, DType.I8)
        expect(scale == SCALE, f"expected a scale {SCALE}, got {scale}")
        for t in (multiplier, shift):
            expected = TensorType(DType.I32, weight.shape[:1])
            expect(t == expected, f"expected {expected}, got {t}")
        form = self.requantize.form
        expect(form is Form.WIDE, f"form {form.value}; expected wide")
        shape = dense_shape(x, weight, multiplier)
        return TensorType(requantized_dtype(self.requantize, x), shape)
