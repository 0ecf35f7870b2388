"""Resampling of integers by weights that are operands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Operand, expect, expect_activation
from qcomp.ir.ops.integer import IntegerOp
from qcomp.ir.tensor import DType, TensorType

__all__ = ["QResize2d"]


@dataclass(frozen=True, kw_only=True)
class QResize2d(IntegerOp):
    """H and W of NHWC, each result a mean of four neighbours, rounded half away from zero:

        (sum over two rows and two columns of x * weight of the row * weight of the column) / 2^20

    `rows` and `columns` are i32 [results, 3]: the place of the first neighbour, that of the second,
    and the second's weight in Q10, which is below 0 beyond an edge. The first has the rest of 2^10.
    """

    mnemonic: ClassVar[str] = "q_resize2d"
    arity: ClassVar[int | None] = 3
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2)
    x = Operand(0)
    rows = Operand(1)
    columns = Operand(2)

    @property
    def copies_integers(self) -> bool:
        return True

    @property
    def one_scale(self) -> tuple[str, ...]:
        return self.x, self.output

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, rows, columns = inputs
        expect_activation(x)
        expect(x.rank == 4, f"expected NHWC, got {x}")
        for t in (rows, columns):
            table = t.dtype is DType.I32 and t.rank == 2 and t.shape[1] == 3
            expect(table, f"expected i32[results, 3], got {t}")
        return x.with_shape((x.shape[0], rows.shape[0], columns.shape[0], x.shape[3]))
