"""Ops at the border of floats and integers: they make the QDQ form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Domain, Op, Operand, expect, expect_float
from qcomp.ir.tensor import DType, TensorType


@dataclass(frozen=True, kw_only=True)
class Quantize(Op):
    """f32 activation to i8; the parameters are the result tensor's qparams."""

    mnemonic: ClassVar[str] = "quantize"
    domain: ClassVar[Domain] = Domain.BORDER
    x = Operand(0)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return inputs[0].with_dtype(DType.I8)


@dataclass(frozen=True, kw_only=True)
class Dequantize(Op):
    """i8 activation to f32; the parameters are the input tensor's qparams."""

    mnemonic: ClassVar[str] = "dequantize"
    domain: ClassVar[Domain] = Domain.BORDER
    x = Operand(0)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect(inputs[0].dtype is DType.I8, f"expected i8, got {inputs[0]}")
        return inputs[0].with_dtype(DType.F32)


@dataclass(frozen=True, kw_only=True)
class FakeQuantConstant(Op):
    """A constant rounded to symmetric integers and back: scale * clip(rint(x / scale), qmin, qmax).

    `scale` is a constant f64 [C] along `axis`, or [1] for all.
    """

    mnemonic: ClassVar[str] = "fake_quant_constant"
    domain: ClassVar[Domain] = Domain.BORDER
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (0, 1)
    x = Operand(0)
    scale = Operand(1)

    axis: int
    qmin: int
    qmax: int

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, scale = inputs
        expect_float(x)
        expect(scale.dtype is DType.F64 and scale.rank == 1, f"scale must be f64[C], not {scale}")
        expect(
            scale.shape[0] in (1, *x.shape[self.axis : self.axis + 1]) and self.axis >= 0,
            f"{scale.shape[0]} scales for axis {self.axis} of {x}",
        )
        return x
