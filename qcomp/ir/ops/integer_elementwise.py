"""Integer ops on one value, or on two that broadcast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import (
    Operand,
    broadcast_shapes,
    expect,
    expect_activation,
    expect_activation_or_sum,
)
from qcomp.ir.ops.integer import (
    IntegerOp,
    Requantized,
    expect_dtype,
    requantized_dtype,
    result_dtype,
)
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.interpolation import WIDEST_STEP

__all__ = [
    "Interpolate",
    "QAdd",
    "QAddRescaled",
    "QAddWide",
    "QBinary",
    "QDiv",
    "QMaximum",
    "QMinimum",
    "QMul",
    "QPRelu",
    "QPReluRescaled",
    "QRescale",
    "Table",
]


@dataclass(frozen=True, kw_only=True)
class QBinary(IntegerOp):
    """Base of the broadcasting ops on two operands; either may be a constant."""

    arity: ClassVar[int | None] = 2
    sums: ClassVar[bool] = False
    """Whether operands and results may be sums of 32 bits."""
    a = Operand(0)
    b = Operand(1)

    def result_type(self, *inputs: TensorType) -> TensorType:
        (expect_activation_or_sum if self.sums else expect_activation)(*inputs)
        return TensorType(self._dtype(*inputs), broadcast_shapes([t.shape for t in inputs]))

    def _dtype(self, *inputs: TensorType) -> DType:
        """The element type of the result."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class QAdd(QBinary):
    """Sum (or difference, by a negative multiplier) of i8 in 16-bit lanes; DESIGN section 3.1.

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

    def _dtype(self, *inputs: TensorType) -> DType:
        for t in inputs:
            expect_dtype(t, DType.I8)
        return DType.I8


@dataclass(frozen=True, kw_only=True)
class QAddWide(QBinary):
    """Sum in 32-bit lanes, for operands whose scales are too far apart for QAdd; of i16 in 64 bits.

    sat(zero_point + (((a - za) * ma + (b - zb) * mb + 2^(shift-1)) >> shift)); of i8 alone
    |ma|, |mb| < 2^22 and shift <= 30; with i16 or i32 |ma|, |mb| < 2^31 and shift <= 62.
    """

    mnemonic: ClassVar[str] = "q_add_wide"
    sums: ClassVar[bool] = True

    a_zero_point: int
    b_zero_point: int
    a_multiplier: int
    b_multiplier: int
    shift: int
    zero_point: int
    qmin: int = -128
    qmax: int = 127
    bits: int = 8

    def _dtype(self, *inputs: TensorType) -> DType:
        return result_dtype(self.bits, self.zero_point, sums=self.sums)


@dataclass(frozen=True, kw_only=True)
class QAddRescaled(QBinary, Requantized):
    """Sum of operands brought to one scale, and rounded, first: TensorFlow Lite's addition.

        requantize(a' + b_sign * b')   by multiplier and shift
        a' = (a - a_zero_point) << left_shift   by a_multiplier and a_shift; b' likewise

    The three factors are in the form of the requantize, TFLITE; b_sign is 1 or -1. Operands have
    one type, and everything fits i32.
    """

    mnemonic: ClassVar[str] = "q_add_rescaled"

    a_zero_point: int
    b_zero_point: int
    left_shift: int
    a_multiplier: int
    a_shift: int
    b_multiplier: int
    b_shift: int
    b_sign: int
    multiplier: int
    shift: int
    requantize: Requantize

    def _dtype(self, *inputs: TensorType) -> DType:
        most = _MOST_LEFT[same_dtype(*inputs)]
        expect_tflite(self.requantize)
        expect(self.b_sign in (1, -1), f"b_sign {self.b_sign}; expected 1 or -1")
        expect(0 <= self.left_shift <= most, f"left_shift {self.left_shift}; expected 0 to {most}")
        return requantized_dtype(self.requantize, *inputs)


_MOST_LEFT = {DType.I8: 22, DType.I16: 15}  # so that |x - zero_point| fits i32


def expect_tflite(q: Requantize) -> None:
    expect(q.form is Form.TFLITE, f"form {q.form.value}; expected tflite")


@dataclass(frozen=True, kw_only=True)
class QMul(QBinary, Requantized):
    """requantize((a - a_zero_point) * (b - b_zero_point)); the product fits i32, of an i32 and an
    i8 or i16 i64.
    """

    mnemonic: ClassVar[str] = "q_mul"
    sums: ClassVar[bool] = True

    a_zero_point: int
    b_zero_point: int
    multiplier: int
    shift: int
    requantize: Requantize

    def _dtype(self, *inputs: TensorType) -> DType:
        wide = [t for t in inputs if t.dtype is DType.I32]
        expect(len(wide) < 2, "a product of two i32; expected one, as 64 bits hold no more")
        return requantized_dtype(self.requantize, *inputs, sums=self.sums)


@dataclass(frozen=True, kw_only=True)
class QDiv(QBinary):
    """Quotient, rounded half away from zero.

    n = (a - za) * multiplier, d = (b - zb) << shift, |n|, |d| < 2^30 (of i8 alone) or 2^61;
    q = zero_point + sign * ((2|n| + |d|) // (2|d|)), saturated to [qmin, qmax];
    d = 0 saturates by the sign of n, and 0 / 0 is zero_point.
    """

    mnemonic: ClassVar[str] = "q_div"
    sums: ClassVar[bool] = True

    a_zero_point: int
    b_zero_point: int
    multiplier: int
    shift: int
    zero_point: int
    qmin: int = -128
    qmax: int = 127
    bits: int = 8

    def _dtype(self, *inputs: TensorType) -> DType:
        return result_dtype(self.bits, self.zero_point, sums=self.sums)


@dataclass(frozen=True, kw_only=True)
class QMinimum(QBinary):
    """min(a, b) of operands in one type and scale, saturated to [qmin, qmax]."""

    mnemonic: ClassVar[str] = "q_minimum"

    qmin: int = -128
    qmax: int = 127

    @property
    def copies_integers(self) -> bool:
        return True

    def _dtype(self, *inputs: TensorType) -> DType:
        return same_dtype(*inputs)


@dataclass(frozen=True, kw_only=True)
class QMaximum(QBinary):
    """max(a, b) of operands in one type and scale, saturated to [qmin, qmax]."""

    mnemonic: ClassVar[str] = "q_maximum"

    qmin: int = -128
    qmax: int = 127

    @property
    def copies_integers(self) -> bool:
        return True

    def _dtype(self, *inputs: TensorType) -> DType:
        return same_dtype(*inputs)


def same_dtype(a: TensorType, b: TensorType) -> DType:
    expect(a.dtype is b.dtype, f"{a} and {b} differ in type")
    return a.dtype


@dataclass(frozen=True, kw_only=True)
class Table(IntegerOp):
    """table[x + 128]: every function of an i8, and every change of scale; table i8 or i16 [256]."""

    mnemonic: ClassVar[str] = "table"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    table = Operand(1)

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, table = inputs
        expect_dtype(x, DType.I8)
        expect_activation(table)
        expect(table.shape == (256,), f"expected a table i8[256] or i16[256], got {table}")
        return x.with_dtype(table.dtype)


@dataclass(frozen=True, kw_only=True)
class QRescale(Requantized):
    """requantize(x - x_zero_point): every change of the scale or width of an i16 or i32, and every
    clamp of an i16.
    """

    mnemonic: ClassVar[str] = "q_rescale"
    x = Operand(0)

    x_zero_point: int
    multiplier: int
    shift: int
    requantize: Requantize

    def result_type(self, *inputs: TensorType) -> TensorType:
        return inputs[0].with_dtype(requantized_dtype(self.requantize, *inputs, sums=True))


@dataclass(frozen=True, kw_only=True)
class Interpolate(IntegerOp):
    """A function of an i16 by linear interpolation in a table i32 [2^(16 - step_bits) + 1].

    Entry i is the function at -2^15 + i * 2^step_bits, in units of 2^-7 steps of the result, at
    most 2^23 in magnitude. With k = step_bits in 0..7,

        i = (x >> k) + 2^(15-k);  r = x & (2^k - 1)
        t = table[i] * 2^k + (table[i + 1] - table[i]) * r
        sat(zero_point + ((t + 2^(k+6)) >> (k + 7)))

    t lies between the two entries times 2^k, so everything fits i32. k = 7 is TensorFlow Lite's
    table of 513 (its entries are i16, in whole steps); k = 0 states every value on its own.
    """

    mnemonic: ClassVar[str] = "interpolate"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    table = Operand(1)

    step_bits: int
    zero_point: int
    qmin: int = -128
    qmax: int = 127
    bits: int = 8

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, table = inputs
        expect_dtype(x, DType.I16)
        expect(0 <= self.step_bits <= WIDEST_STEP, f"step_bits {self.step_bits}; expected 0 to 7")
        expected = TensorType(DType.I32, (2 ** (16 - self.step_bits) + 1,))
        expect(table == expected, f"expected a table {expected}, got {table}")
        return x.with_dtype(result_dtype(self.bits, self.zero_point))


@dataclass(frozen=True, kw_only=True)
class QPRelu(IntegerOp):
    """Two multipliers by sign: t = x - x_zero_point;
    sat(zero_point + ((t * m + 2^(shift-1)) >> shift)), m = positive_multiplier where t >= 0.

    negative_multiplier is a constant i32 that broadcasts to x. Of i8 alone all |multipliers| < 2^22
    and shift <= 30, so that 32 bits hold it; with i16 |multipliers| < 2^31 and shift <= 62.
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
    bits: int = 8

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, slope = inputs
        expect_activation(x)
        expect_dtype(slope, DType.I32)
        expect(
            broadcast_shapes([x.shape, slope.shape]) == x.shape,
            f"slope {slope} does not broadcast to {x}",
        )
        return x.with_dtype(result_dtype(self.bits, self.zero_point))


@dataclass(frozen=True, kw_only=True)
class QPReluRescaled(Requantized):
    """TensorFlow Lite's PReLU: t = x - x_zero_point;

        requantize(t)                                by positive_multiplier and _shift where t >= 0
        requantize(t * (slope - slope_zero_point))   by multiplier and shift where t < 0

    The form is TFLITE. slope is a constant of integers that broadcasts to x.
    """

    mnemonic: ClassVar[str] = "q_prelu_rescaled"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    slope = Operand(1)

    x_zero_point: int
    slope_zero_point: int
    positive_multiplier: int
    positive_shift: int
    multiplier: int
    shift: int
    requantize: Requantize

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, slope = inputs
        for t in inputs:
            expect_dtype(t, DType.I8)
        expect_tflite(self.requantize)
        expect(
            broadcast_shapes([x.shape, slope.shape]) == x.shape,
            f"slope {slope} does not broadcast to {x}",
        )
        return x.with_dtype(requantized_dtype(self.requantize, *inputs))
