"""Integer ops: what targets accept. Their meaning in numpy is qcomp.ir.evaluate.integer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Domain, Op, Operand, broadcast_shapes, expect
from qcomp.ir.ops.linear import Padding, Pair, convolution_shape, dense_shape, matmul_shape
from qcomp.ir.ops.reduction import Reduction, pool_shape, reduced_shape
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Requantize


def expect_dtype(t: TensorType, dtype: DType) -> None:
    expect(t.dtype is dtype, f"expected {dtype.value}, got {t}")


@dataclass(frozen=True, kw_only=True)
class IntegerOp(Op):
    """Base of the ops that stand only in integer graphs."""

    domain: ClassVar[Domain] = Domain.INTEGER


def expect_accumulating(inputs: tuple[TensorType, ...], channels: int) -> None:
    """Types of (x, weight, bias, multiplier, shift)."""
    x, weight, bias, multiplier, shift = inputs
    expect_dtype(x, DType.I8)
    expect_dtype(weight, DType.I8)
    for t in (bias, multiplier, shift):
        expect_dtype(t, DType.I32)
        expect(t.shape == (channels,), f"{t} for {channels} channels")


@dataclass(frozen=True, kw_only=True)
class QConv2d(IntegerOp):
    """requantize(sum(weight * (x - x_zero_point)) + bias); x NHWC i8, weight OHWI i8, bias i32 [O].

    multiplier and shift are i32 [O]. Padding has the value x_zero_point, so it adds nothing.
    """

    mnemonic: ClassVar[str] = "q_conv2d"
    arity: ClassVar[int | None] = 5
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    x = Operand(0)
    weight = Operand(1)
    bias = Operand(2)
    multiplier = Operand(3)
    shift = Operand(4)

    x_zero_point: int
    requantize: Requantize
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, weight = inputs[:2]
        shape = convolution_shape(x, weight, self.stride, self.padding, self.dilation, self.groups)
        expect_accumulating(inputs, weight.shape[0])
        return x.with_shape(shape)


@dataclass(frozen=True, kw_only=True)
class QDense(IntegerOp):
    """requantize((x - x_zero_point) @ weight.T + bias); x [..., K] i8, weight [N, K] i8."""

    mnemonic: ClassVar[str] = "q_dense"
    arity: ClassVar[int | None] = 5
    constant_operands: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    x = Operand(0)
    weight = Operand(1)
    bias = Operand(2)
    multiplier = Operand(3)
    shift = Operand(4)

    x_zero_point: int
    requantize: Requantize

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, weight, bias = inputs[:3]
        shape = dense_shape(x, weight, bias)
        expect_accumulating(inputs, weight.shape[0])
        return x.with_shape(shape)


@dataclass(frozen=True, kw_only=True)
class QMatMul(IntegerOp):
    """requantize((a - a_zero_point) @ (b - b_zero_point)), leading axes broadcast."""

    mnemonic: ClassVar[str] = "q_matmul"
    arity: ClassVar[int | None] = 2
    a = Operand(0)
    b = Operand(1)

    a_zero_point: int
    b_zero_point: int
    multiplier: int
    shift: int
    requantize: Requantize

    def result_type(self, *inputs: TensorType) -> TensorType:
        for t in inputs:
            expect_dtype(t, DType.I8)
        return inputs[0].with_shape(matmul_shape(*inputs))


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
