"""Integer ops on one value, or on two that broadcast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Operand, broadcast_shapes, expect
from qcomp.ir.ops.integer import IntegerOp, expect_dtype
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Requantize


@dataclass(frozen=True, kw_only=True)
class QBinary(IntegerOp):
    """Base of the broadcasting ops on two i8 operands; either may be a constant."""

    arity: ClassVar[int | None] = 2
    a = Operand(0)
    b = Operand(1)

    def result_type(self, *inputs: TensorType) -> TensorType:
        for t in inputs:
            expect_dtype(t, DType.I8)
        return inputs[0].with_shape(broadcast_shapes([t.shape for t in inputs]))


@dataclass(frozen=True, kw_only=True)
class QAdd(QBinary):
    """Sum (or difference, by a negative multiplier) in 16-bit lanes; DESIGN section 3.1.

    sat8(zero_point + ((mulhrs((a - za) << 7, ma) + mulhrs((b - zb) << 7, mb) + 2^(f-1)) >> f)),
    f = fraction_bits >= 0, chosen so that the sum can't overflow 16 bits.
    """

    mnemonic: ClassVar[str] = "q_add"

    a_zero_point: int
    b_zero_point: int
    a_multiplier: int
    b_multiplier: int
    fraction_bits: int
    zero_point: int
    qmin: int = -128
    qmax: int = 127


@dataclass(frozen=True, kw_only=True)
class QAddWide(QBinary):
    """Sum in 32-bit lanes, for operands whose scales are too far apart for QAdd.

    sat8(zero_point + (((a - za) * ma + (b - zb) * mb + 2^(shift-1)) >> shift)), |ma|, |mb| < 2^22.
    """

    mnemonic: ClassVar[str] = "q_add_wide"

    a_zero_point: int
    b_zero_point: int
    a_multiplier: int
    b_multiplier: int
    shift: int
    zero_point: int
    qmin: int = -128
    qmax: int = 127


@dataclass(frozen=True, kw_only=True)
class QMul(QBinary):
    """requantize((a - a_zero_point) * (b - b_zero_point))."""

    mnemonic: ClassVar[str] = "q_mul"

    a_zero_point: int
    b_zero_point: int
    multiplier: int
    shift: int
    requantize: Requantize


@dataclass(frozen=True, kw_only=True)
class QDiv(QBinary):
    """Quotient, rounded half away from zero.

    n = (a - za) * multiplier, d = (b - zb) << shift, |n|, |d| < 2^30;
    q = zero_point + sign * ((2|n| + |d|) // (2|d|)), saturated to [qmin, qmax];
    d = 0 saturates by the sign of n, and 0 / 0 is zero_point.
    """

    mnemonic: ClassVar[str] = "q_div"

    a_zero_point: int
    b_zero_point: int
    multiplier: int
    shift: int
    zero_point: int
    qmin: int = -128
    qmax: int = 127


@dataclass(frozen=True, kw_only=True)
class QMinimum(QBinary):
    """min(a, b) of operands in one scale, saturated to [qmin, qmax]."""

    mnemonic: ClassVar[str] = "q_minimum"

    qmin: int = -128
    qmax: int = 127


@dataclass(frozen=True, kw_only=True)
class QMaximum(QBinary):
    """max(a, b) of operands in one scale, saturated to [qmin, qmax]."""

    mnemonic: ClassVar[str] = "q_maximum"

    qmin: int = -128
    qmax: int = 127


@dataclass(frozen=True, kw_only=True)
class Table(IntegerOp):
    """table[x + 128]: every function of one i8 value, and every change of scale; table i8 [256]."""

    mnemonic: ClassVar[str] = "table"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    table = Operand(1)

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, table = inputs
        expect_dtype(x, DType.I8)
        expect(table == TensorType(DType.I8, (256,)), f"expected a table i8[256], got {table}")
        return x


@dataclass(frozen=True, kw_only=True)
class QPRelu(IntegerOp):
    """Two multipliers by sign: t = x - x_zero_point;
    sat8(zero_point + ((t * m + 2^(shift-1)) >> shift)), m = positive_multiplier where t >= 0.

    negative_multiplier is a constant i32 that broadcasts to x; all |multipliers| < 2^22.
    """

    mnemonic: ClassVar[str] = "q_prelu"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    negative_multiplier = Operand(1)

    x_zero_point: int
    positive_multiplier: int
    shift: int
    zero_point: int
    qmin: int = -128
    qmax: int = 127

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, slope = inputs
        expect_dtype(x, DType.I8)
        expect_dtype(slope, DType.I32)
        expect(
            broadcast_shapes([x.shape, slope.shape]) == x.shape,
            f"slope {slope} does not broadcast to {x}",
        )
        return x
