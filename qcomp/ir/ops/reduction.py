"""Ops that combine the values along axes, of floats and integers: sums, extremes, softmax."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Domain, Op, Operand, expect, expect_activation, expect_float
from qcomp.ir.ops.integer import Formed, IntegerOp, Requantized, requantized_dtype, result_dtype
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import FINEST_SOFTMAX

__all__ = [
    "ArgMax",
    "LogSoftmax",
    "QLogSoftmax",
    "QReduceExtreme",
    "QReduceSum",
    "QSoftmax",
    "Reduce",
    "Reduction",
    "Softmax",
]


class Reduction(enum.Enum):
    """What a Reduce computes."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    MIN = "min"


def reduced_shape(x: TensorType, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    expect(len(set(axes)) == len(axes), f"axes {axes} repeat")
    expect(all(0 <= a < x.rank for a in axes), f"axes {axes} outside rank {x.rank}")
    if keepdims:
        return tuple(1 if i in axes else e for i, e in enumerate(x.shape))
    return tuple(e for i, e in enumerate(x.shape) if i not in axes)


@dataclass(frozen=True, kw_only=True)
class Reduce(Op):
    """Mean, sum, max or min over `axes` (non-negative); global pooling is a Reduce over (1, 2)."""

    mnemonic: ClassVar[str] = "reduce"
    x = Operand(0)

    kind: Reduction
    axes: tuple[int, ...]
    keepdims: bool = True

    @property
    def copies_integers(self) -> bool:
        return self.kind in (Reduction.MAX, Reduction.MIN)

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect_float(x)
        return x.with_shape(reduced_shape(x, self.axes, self.keepdims))


@dataclass(frozen=True, kw_only=True)
class ArgMax(Op):
    """Index of the largest value along one axis, i32; the first one (or the last) on ties."""

    mnemonic: ClassVar[str] = "argmax"
    domain: ClassVar[Domain] = Domain.ANY
    x = Operand(0)

    axis: int
    keepdims: bool = True
    last: bool = False

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        shape = reduced_shape(x, (self.axis,), self.keepdims)
        return TensorType(DType.I32, shape)


@dataclass(frozen=True, kw_only=True)
class QReduceSum(Requantized):
    """requantize(sum over axes of (x - x_zero_point)): mean and sum differ in the multiplier."""

    mnemonic: ClassVar[str] = "q_reduce_sum"
    x = Operand(0)

    axes: tuple[int, ...]
    keepdims: bool
    x_zero_point: int
    multiplier: int
    shift: int
    requantize: Requantize

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        shape = reduced_shape(x, self.axes, self.keepdims)
        return TensorType(requantized_dtype(self.requantize, x, sums=True), shape)


@dataclass(frozen=True, kw_only=True)
class QReduceExtreme(IntegerOp):
    """max or min over axes; the result has the input's type and scale."""

    mnemonic: ClassVar[str] = "q_reduce_extreme"
    x = Operand(0)

    kind: Reduction
    axes: tuple[int, ...]
    keepdims: bool

    @property
    def copies_integers(self) -> bool:
        return True

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect_activation(x)
        expect(self.kind in (Reduction.MAX, Reduction.MIN), f"not an extreme: {self.kind.value}")
        return x.with_shape(reduced_shape(x, self.axes, self.keepdims))


@dataclass(frozen=True, kw_only=True)
class Softmax(Op):
    """exp(x - max) / sum along one axis (non-negative)."""

    mnemonic: ClassVar[str] = "softmax"
    x = Operand(0)

    axis: int

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect_float(x)
        expect(0 <= self.axis < x.rank, f"axis {self.axis} outside rank {x.rank}")
        return x


@dataclass(frozen=True, kw_only=True)
class LogSoftmax(Softmax):
    """x - max - log(sum(exp(x - max))) along one axis."""

    mnemonic: ClassVar[str] = "log_softmax"


TFLITE_ENTRIES = 2**16 + 513  # of the form TFLITE of 16 bits


def _expect_exponentials(x: TensorType, table: TensorType, axis: int, entries: int) -> None:
    """What the softmaxes want of their operands."""
    expect_activation(x)
    expected = TensorType(DType.I32, (entries,))
    expect(table == expected, f"expected exponentials {expected}, got {table}")
    expect(0 <= axis < x.rank, f"axis {axis} outside rank {x.rank}")
    expect(x.shape[axis] <= 32767, f"softmax over {x.shape[axis]} > 32767 elements")


@dataclass(frozen=True, kw_only=True)
class QSoftmax(Formed):
    """e[i] = exp(max - x[i]) in fixed point, S = sum(e), and with 8 bits (scale 2^-(8 + finer))
    q = min(127, (2^(8 + finer) * e[i] + S // 2) // S - 128), with 16 bits (scale 1/32768)
    q = min(32767, (32768 * e[i] + S // 2) // S).

    With d = max - x: for i8, exp_table is i32 [256] in Q16 and e = exp_table[d]; for i16, it is
    i32 [2 * 256] in Q30, of d and of 256 * d, and

        e = (exp_table[d & 255] * exp_table[256 + (d >> 8)] + 2^29) >> 30

    The axis has at most 32767 elements, so that S < 2^31 for i8 and S < 2^45 for i16; finer is at
    most 5, so that 2^13 * 2^16 + S // 2 < 2^31.

    That is the form QUOTIENT. TFLITE is the arithmetic of TensorFlow Lite's reference for i8:
    exp_table has the exponentials in Q31, 0 where they are too small to count, S is their sum in
    Q19, each term rounded, and r, k = gemmlowp.reciprocal(S) stands for 1 / S,

        q = min(127, rdpot(srdhm(r, e[i]), k + 23) - 128)

    For i16 exp_table is i32 [65536 + 513]: exponentials in Q15 of each difference, then 1 / (1 + n)
    in Q15 for n from 0 to 1 in 512 steps, which are interpolated (qcomp.quant.tflite_softmax); with
    n = bits of S - 1, r = the reciprocal of the mantissa of S, q = (e[i] * r + 2^(n-1)) >> n.
    """

    mnemonic: ClassVar[str] = "q_softmax"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    exp_table = Operand(1)

    axis: int
    finer: int = 0
    bits: int = 8
    form: Form = Form.QUOTIENT

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, table = inputs
        narrow, of_16 = x.dtype is DType.I8, TFLITE_ENTRIES if self.form is Form.TFLITE else 512
        _expect_exponentials(x, table, self.axis, 256 if narrow else of_16)
        finest = FINEST_SOFTMAX if self.bits == 8 and self.form is Form.QUOTIENT else 0
        expect(0 <= self.finer <= finest, f"finer={self.finer}; expected 0 to {finest}")
        result = x.with_dtype(result_dtype(self.bits, 0))
        expect(
            self.form is Form.QUOTIENT or (self.form is Form.TFLITE and x.dtype is result.dtype),
            f"form {self.form.value} of {x} to {result}; expected quotient, or tflite of i8 to i8 "
            "or of i16 to i16",
        )
        return result


@dataclass(frozen=True, kw_only=True)
class QLogSoftmax(IntegerOp):
    """sat(zero_point + (((x - max) * multiplier - log(S) + 2^(shift-1)) >> shift)), in i64.

    S = sum of the exponentials of QSoftmax, in Q16 for i8 (2^16 <= S < 2^31) and in Q30 for i16
    (2^30 <= S < 2^45). With U units per nat (2^shift steps of the result), of i8 alone, log_table
    i32 [32 + 257] holds rint(U * ln(2) * (n - 16)) for n in 0..31, then T[i] =
    rint(U * ln(1 + i / 256)) for i in 0..256, and

        n = floor(log2(S));  f = ((S << (31 - n)) & (2^31 - 1)) >> 15     the mantissa, Q16
        i = f >> 8;  r = f & 255
        log(S) = log_table[n] + T[i] + ((T[i + 1] - T[i]) * r >> 8)

    and the constants of qcomp.quant.tables make every sum of this fit i32. With i16 at either side
    log_table is i64 [48 + 257], n in 0..47, over the Q of S, and the mantissa is
    f = ((S << (46 - n)) & (2^46 - 1)) >> 30.
    """

    mnemonic: ClassVar[str] = "q_log_softmax"
    arity: ClassVar[int | None] = 3
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2)
    x = Operand(0)
    exp_table = Operand(1)
    log_table = Operand(2)

    axis: int
    multiplier: int
    shift: int
    zero_point: int
    bits: int = 8

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, exp_table, log_table = inputs
        _expect_exponentials(x, exp_table, self.axis, 256 if x.dtype is DType.I8 else 512)
        narrow = x.dtype is DType.I8 and self.bits == 8
        expected = TensorType(DType.I32, (289,)) if narrow else TensorType(DType.I64, (305,))
        expect(log_table == expected, f"expected logarithms {expected}, got {log_table}")
        return x.with_dtype(result_dtype(self.bits, self.zero_point))
