"""Integer ops that combine many values: pooling, sums, extremes, softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Operand, expect
from qcomp.ir.ops.integer import IntegerOp, expect_dtype
from qcomp.ir.ops.linear import Padding, Pair
from qcomp.ir.ops.reduction import Reduction, pool_shape, reduced_shape
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Requantize


@dataclass(frozen=True, kw_only=True)
class QAveragePool2d(IntegerOp):
    """requantize(sum over the window of (x - x_zero_point)); multiplier [KH * KW + 1] by the count
    of positions that are averaged over (all of them with count_include_pad), one shift.
    """

    mnemonic: ClassVar[str] = "q_average_pool2d"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    multiplier = Operand(1)

    x_zero_point: int
    shift: int
    requantize: Requantize
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    count_include_pad: bool = False

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, multiplier = inputs
        expect_dtype(x, DType.I8)
        expect(
            multiplier == TensorType(DType.I32, (self.kernel[0] * self.kernel[1] + 1,)),
            f"expected a multiplier for each count, got {multiplier}",
        )
        return x.with_shape(pool_shape(x, self.kernel, self.stride, self.padding, self.dilation))


@dataclass(frozen=True, kw_only=True)
class QReduceSum(IntegerOp):
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
        expect_dtype(x, DType.I8)
        return x.with_shape(reduced_shape(x, self.axes, self.keepdims))


@dataclass(frozen=True, kw_only=True)
class QReduceExtreme(IntegerOp):
    """max or min over axes; the result has the input's scale."""

    mnemonic: ClassVar[str] = "q_reduce_extreme"
    x = Operand(0)

    kind: Reduction
    axes: tuple[int, ...]
    keepdims: bool

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect_dtype(x, DType.I8)
        expect(self.kind in (Reduction.MAX, Reduction.MIN), f"not an extreme: {self.kind.value}")
        return x.with_shape(reduced_shape(x, self.axes, self.keepdims))


@dataclass(frozen=True, kw_only=True)
class QSoftmax(IntegerOp):
    """e[i] = exp_table[max - x[i]], S = sum(e); q = min(127, (256 * e[i] + S // 2) // S - 128).

    exp_table is i32 [256] in Q16 (entry 0 is 65536); the result has scale 1/256, zero point -128.
    The axis has at most 32767 elements, so that S < 2^31.
    """

    mnemonic: ClassVar[str] = "q_softmax"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    exp_table = Operand(1)

    axis: int

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, table = inputs
        expect_dtype(x, DType.I8)
        expect(table == TensorType(DType.I32, (256,)), f"expected a table i32[256], got {table}")
        expect(0 <= self.axis < x.rank, f"axis {self.axis} outside rank {x.rank}")
        expect(x.shape[self.axis] <= 32767, f"softmax over {x.shape[self.axis]} > 32767 elements")
        return x


@dataclass(frozen=True, kw_only=True)
class QLogSoftmax(IntegerOp):
    """sat8(zero_point + (((x - max) * multiplier - log(S) + 2^(shift-1)) >> shift)), in i64.

    S = sum of exp_table[max - x], Q16, as in QSoftmax; 2^16 <= S < 2^31. With U units per nat
    (2^shift steps of the result), log_table i32 [32 + 257] holds rint(U * ln(2) * (n - 16)) for n
    in 0..31, then T[i] = rint(U * ln(1 + i / 256)) for i in 0..256, and

        n = floor(log2(S));  f = ((S << (31 - n)) & (2^31 - 1)) >> 15     the mantissa, Q16
        i = f >> 8;  r = f & 255
        log(S) = log_table[n] + T[i] + ((T[i + 1] - T[i]) * r >> 8)

    The constants of qcomp.quant.tables make every sum of this fit i32.
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

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, exp_table, log_table = inputs
        expect_dtype(x, DType.I8)
        expect(exp_table == TensorType(DType.I32, (256,)), f"bad exp table {exp_table}")
        expect(log_table == TensorType(DType.I32, (289,)), f"bad log table {log_table}")
        expect(0 <= self.axis < x.rank, f"axis {self.axis} outside rank {x.rank}")
        expect(x.shape[self.axis] <= 32767, f"softmax over {x.shape[self.axis]} > 32767 elements")
        return x
