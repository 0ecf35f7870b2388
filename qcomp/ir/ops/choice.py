"""Comparisons, which give 0 and 1, and the choice between two values; of floats and of integers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import (
    AxisUse,
    Op,
    Operand,
    broadcast_shapes,
    expect,
    expect_activation,
    expect_float,
)
from qcomp.ir.ops.integer import IntegerOp, result_dtype
from qcomp.ir.tensor import TensorId, TensorType

__all__ = ["Compare", "QCompare", "QSelect", "Relation", "Select"]


class Relation(enum.Enum):
    """What is asked of two values; the others are these with the operands in the other order."""

    EQUAL = "equal"  # a == b
    LESS = "less"  # a < b
    LESS_OR_EQUAL = "less_or_equal"  # a <= b


@dataclass(frozen=True, kw_only=True)
class Compare(Op):
    """1 where `a relation b` holds, else 0; the operands broadcast."""

    mnemonic: ClassVar[str] = "compare"
    axis_use: ClassVar[AxisUse | None] = AxisUse.NONE
    arity: ClassVar[int | None] = 2
    a = Operand(0)
    b = Operand(1)

    relation: Relation

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return self.inputs

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return inputs[0].with_shape(broadcast_shapes([t.shape for t in inputs]))


@dataclass(frozen=True, kw_only=True)
class Select(Op):
    """a where the condition is not 0, else b; all three broadcast."""

    mnemonic: ClassVar[str] = "select"
    axis_use: ClassVar[AxisUse | None] = AxisUse.NONE
    arity: ClassVar[int | None] = 3
    condition = Operand(0)
    a = Operand(1)
    b = Operand(2)

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return (self.a, self.b, self.output)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return inputs[1].with_shape(broadcast_shapes([t.shape for t in inputs]))


@dataclass(frozen=True, kw_only=True)
class QCompare(IntegerOp):
    """`one` where `a relation b` holds of integers in one scale, else `zero`.

    A constant operand may be an i16 among i8, where it lies beyond them.
    """

    mnemonic: ClassVar[str] = "q_compare"
    arity: ClassVar[int | None] = 2
    a = Operand(0)
    b = Operand(1)

    relation: Relation
    zero: int
    one: int
    bits: int = 8

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return self.inputs

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_activation(*inputs)
        return TensorType(result_dtype(self.bits, 0), broadcast_shapes([t.shape for t in inputs]))


@dataclass(frozen=True, kw_only=True)
class QSelect(IntegerOp):
    """a where the condition is not condition_zero_point, else b; a, b and the result have one type
    and one scale.
    """

    mnemonic: ClassVar[str] = "q_select"
    arity: ClassVar[int | None] = 3
    condition = Operand(0)
    a = Operand(1)
    b = Operand(2)

    condition_zero_point: int

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        return (self.a, self.b, self.output)

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_activation(*inputs)
        _, a, b = inputs
        expect(a.dtype is b.dtype, f"{a} and {b} differ in type")
        return TensorType(a.dtype, broadcast_shapes([t.shape for t in inputs]))
