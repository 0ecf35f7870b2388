"""The logarithm of a sum of squares, of floats and of integers: of the power of a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import AxisUse, Op, Operand, expect, expect_activation, expect_float
from qcomp.ir.ops.integer import IntegerOp, result_dtype
from qcomp.ir.tensor import DType, TensorId, TensorType

__all__ = ["LogPower", "QLogPower"]


@dataclass(frozen=True, kw_only=True)
class LogPower(Op):
    """log(max(a * a + b * b + added, least)) of operands of one shape; least > 0."""

    mnemonic: ClassVar[str] = "log_power"
    axis_use: ClassVar[AxisUse | None] = AxisUse.NONE
    arity: ClassVar[int | None] = 2
    a = Operand(0)
    b = Operand(1)

    added: float
    least: float

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return self.inputs

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        expect(inputs[0] == inputs[1], f"{inputs[0]} and {inputs[1]} differ")
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class QLogPower(IntegerOp):
    """sat(zero_point + ((log(P) + offset + 2^15) >> 16)), in i64, with the sum of squares

        P = max((((a - x_zero_point)^2 + (b - x_zero_point)^2) * 2^14 >> down) + added, least)

    of operands of one scale; added and least at most 2^44, so that 1 <= P < 2^46, which large ones
    may ask a `down` for, at most 45. log(P) is that of
    QLogSoftmax over the Q 0 of its log_table i64 [48 + 257], in units of 2^-16 steps.
    """

    mnemonic: ClassVar[str] = "q_log_power"
    arity: ClassVar[int | None] = 3
    constant_operands: ClassVar[tuple[int, ...]] = (2,)
    a = Operand(0)
    b = Operand(1)
    log_table = Operand(2)

    x_zero_point: int
    down: int
    added: int
    least: int
    offset: int
    zero_point: int
    bits: int = 8

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return self.a, self.b

    def result_type(self, *inputs: TensorType) -> TensorType:
        a, b, table = inputs
        expect_activation(a, b)
        expect(a == b, f"{a} and {b} differ")
        expect(0 <= self.down < 46, f"down={self.down}; expected 0 to 45")
        expected = TensorType(DType.I64, (305,))
        expect(table == expected, f"expected logarithms {expected}, got {table}")
        return a.with_dtype(result_dtype(self.bits, self.zero_point))
