"""Ops at the border of floats and integers: they make the QDQ form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import (
    Domain,
    Op,
    Operand,
    activation_dtype,
    expect,
    expect_activation_or_sum,
    expect_float,
)
from qcomp.ir.tensor import Array, DType, TensorType
from qcomp.quant.grid import Grid

__all__ = ["Dequantize", "FakeQuantConstant", "IntegerConstant", "Quantize", "QuantizedConstant"]


@dataclass(frozen=True, kw_only=True)
class Quantize(Op):
    """f32 activation to i8, i16 or i32; the parameters are the result tensor's qparams."""

    mnemonic: ClassVar[str] = "quantize"
    domain: ClassVar[Domain] = Domain.BORDER
    x = Operand(0)

    bits: int = 8

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return inputs[0].with_dtype(activation_dtype(self.bits, sums=True))


@dataclass(frozen=True, kw_only=True)
class Dequantize(Op):
    """i8, i16 or i32 activation to f32; the parameters are the input tensor's qparams."""

    mnemonic: ClassVar[str] = "dequantize"
    domain: ClassVar[Domain] = Domain.BORDER
    x = Operand(0)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_activation_or_sum(*inputs)
        return inputs[0].with_dtype(DType.F32)


@dataclass(frozen=True, kw_only=True)
class QuantizedConstant(Op):
    """Base of the constants that stand for integers: x, and `scale` f64 [C] along `axis` or [1]."""

    domain: ClassVar[Domain] = Domain.BORDER
    constant_operands: ClassVar[tuple[int, ...]] = (0, 1, 2)
    x = Operand(0)
    scale = Operand(1)

    axis: int

    def _expect_scale(self, x: TensorType, scale: TensorType) -> None:
        expect(scale.dtype is DType.F64 and scale.rank == 1, f"scale must be f64[C], not {scale}")
        expect(
            scale.shape[0] in (1, *x.shape[self.axis : self.axis + 1]) and self.axis >= 0,
            f"{scale.shape[0]} scales for axis {self.axis} of {x}",
        )


@dataclass(frozen=True, kw_only=True)
class FakeQuantConstant(QuantizedConstant):
    """A constant rounded to the values of a symmetric grid of `bits` bits (qcomp.quant.grid).

    Operands: x f32, scale and, where groups have their own steps, multiplier, an i8 shaped as x.
    """

    mnemonic: ClassVar[str] = "fake_quant_constant"
    arity: ClassVar[int | None] = None

    bits: int

    def grid(self, scale: Array, multiplier: Array | None = None) -> Grid:
        """The grid, from the data of the operands behind x."""
        return Grid(scale, self.bits, self.axis, multiplier)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect(len(inputs) in (2, 3), f"expected 2 or 3 operands, got {len(inputs)}")
        x, scale, *multiplier = inputs
        expect_float(x)
        self._expect_scale(x, scale)
        for m in multiplier:
            expect(m == x.with_dtype(DType.I8), f"expected a multiplier for each of {x}, got {m}")
        return x


@dataclass(frozen=True, kw_only=True)
class IntegerConstant(QuantizedConstant):
    """scale * (x - zero_point): integers that a model brought along, which nothing rounds again.

    x is i8, i16 or i32 and holds any value of its type; zero_point is i8, shaped as the scale.
    """

    mnemonic: ClassVar[str] = "integer_constant"
    arity: ClassVar[int | None] = 3
    zero_point = Operand(2)

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, scale, zero_point = inputs
        expect(x.dtype in _GIVEN, f"expected i8, i16 or i32, got {x}")
        self._expect_scale(x, scale)
        expected = scale.with_dtype(DType.I8)
        expect(zero_point == expected, f"expected a zero_point {expected}, got {zero_point}")
        return x.with_dtype(DType.F32)


_GIVEN = (DType.I8, DType.I16, DType.I32)
