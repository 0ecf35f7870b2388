"""Rows of a constant table by indices that are computed; of floats and of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import AxisUse, Op, Operand, expect, expect_activation, expect_float
from qcomp.ir.ops.integer import IntegerOp
from qcomp.ir.tensor import TensorType

__all__ = ["Embedding", "QEmbedding"]


@dataclass(frozen=True, kw_only=True)
class Embedding(Op):
    """table[x - first] along its first axis, x rounded, and clamped to the rows that there are.

    With `wraps` places from -rows to -1 count from the end.
    """

    mnemonic: ClassVar[str] = "embedding"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    table = Operand(1)

    first: int = 0
    wraps: bool = False

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return _rows(*inputs)


@dataclass(frozen=True, kw_only=True)
class QEmbedding(IntegerOp):
    """table[x - first] along its first axis, the index clamped to the rows that there are.

    With `wraps` places from -rows to -1 count from the end.
    The table is an i8 or i16 in the scale of the result; x may have the other width.
    """

    mnemonic: ClassVar[str] = "q_embedding"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    table = Operand(1)

    first: int
    wraps: bool = False

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_activation(*inputs)
        return _rows(*inputs)


def _rows(x: TensorType, table: TensorType) -> TensorType:
    expect(table.rank >= 1, f"expected a table of rows, got {table}")
    return table.with_shape((*x.shape, *table.shape[1:]))
