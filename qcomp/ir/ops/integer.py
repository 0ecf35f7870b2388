"""Integer ops: what targets accept. Their meanings in numpy are in qcomp.ir.evaluate.

Every activation is i8 or i16, operands and results of an op independently of each other, unless the
op says otherwise; an op's `bits` (or its requantize's) are those of its result. Some ops know sums
of 32 bits as well, i32. i16 and i32 are symmetric: their zero points are 0. With one of these at an
operand or the result, sums and products are i64, requantization has the form WIDE (with i16 also
QUOTIENT, or TFLITE, whose sums stay within 32 bits), and certify-accumulators proves that nothing
leaves the lanes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import (
    Domain,
    Op,
    activation_dtype,
    expect,
    expect_activation,
    expect_activation_or_sum,
)
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize

__all__ = ["Formed", "IntegerOp", "Requantized"]


def expect_dtype(t: TensorType, dtype: DType) -> None:
    expect(t.dtype is dtype, f"expected {dtype.value}, got {t}")


def result_dtype(bits: int, zero_point: int, *, sums: bool = False) -> DType:
    """The element type of a result; that of 16 bits, and of 32 where there may be `sums` of 32, is
    symmetric.
    """
    expect(
        bits == 8 or zero_point == 0, f"zero_point {zero_point} of an i{bits} result; expected 0"
    )
    return activation_dtype(bits, sums=sums)


def requantized_dtype(q: Requantize, *operands: TensorType, sums: bool = False) -> DType:
    """The element type that a requantize gives; the forms NARROW, ONNX and AWAY have 8 bits."""
    (expect_activation_or_sum if sums else expect_activation)(*operands)
    result = result_dtype(q.bits, q.zero_point, sums=sums)
    dtypes = (result, *(t.dtype for t in operands))
    expect(
        q.form is Form.WIDE or DType.I32 not in dtypes,
        f"form {q.form.value} with i32; expected wide",
    )
    expect(
        q.form in _FORMS_OF_16_BITS or DType.I16 not in dtypes,
        f"form {q.form.value} with i16; expected wide, tflite or quotient",
    )
    return result


_FORMS_OF_16_BITS = (Form.WIDE, Form.TFLITE, Form.QUOTIENT)


@dataclass(frozen=True, kw_only=True)
class IntegerOp(Op):
    """Base of the ops that stand only in integer graphs."""

    domain: ClassVar[Domain] = Domain.INTEGER


class Formed(IntegerOp):
    """Base of the ops whose results can be rounded in several ways."""

    @property
    def form(self) -> Form:
        """The arithmetic of the result."""
        raise NotImplementedError


class Requantized(Formed):
    """Base of the ops whose results a requantize gives, which is a field of theirs."""

    requantize: Requantize  # no field of this class, so that it stands where each op has it

    @property
    def form(self) -> Form:
        return self.requantize.form
