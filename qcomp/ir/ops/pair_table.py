"""Any function of two bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Operand, broadcast_shapes, expect
from qcomp.ir.ops.integer import IntegerOp, expect_dtype
from qcomp.ir.tensor import DType, TensorType

__all__ = ["PAIRS", "PairTable"]

PAIRS = 2**16


@dataclass(frozen=True, kw_only=True)
class PairTable(IntegerOp):
    """table[256 * (a + 128) + b + 128] of operands i8 that broadcast; table i8 [65536]."""

    mnemonic: ClassVar[str] = "pair_table"
    arity: ClassVar[int | None] = 3
    constant_operands: ClassVar[tuple[int, ...]] = (2,)
    a = Operand(0)
    b = Operand(1)
    table = Operand(2)

    def result_type(self, *inputs: TensorType) -> TensorType:
        a, b, table = inputs
        for x in (a, b):
            expect_dtype(x, DType.I8)
        expect(
            table == TensorType(DType.I8, (PAIRS,)), f"expected a table i8[{PAIRS}], got {table}"
        )
        return TensorType(DType.I8, broadcast_shapes([a.shape, b.shape]))
