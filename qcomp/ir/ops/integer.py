"""Integer ops: what targets accept. Their meaning in numpy is qcomp.ir.evaluate.integer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Domain, Op, expect
from qcomp.ir.tensor import DType, TensorType


def expect_dtype(t: TensorType, dtype: DType) -> None:
    expect(t.dtype is dtype, f"expected {dtype.value}, got {t}")


@dataclass(frozen=True, kw_only=True)
class IntegerOp(Op):
    """Base of the ops that stand only in integer graphs."""

    domain: ClassVar[Domain] = Domain.INTEGER
