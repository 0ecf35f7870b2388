"""Elementwise ops: clamp, unary functions, PReLU and broadcasting binary ops."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import (
    NO_CLAMP,
    AxisUse,
    ClampRange,
    Op,
    Operand,
    broadcast_shapes,
    expect,
    expect_float,
)
from qcomp.ir.tensor import TensorType

__all__ = [
    "UP_TO_ONE",
    "Add",
    "Binary",
    "Clamp",
    "Div",
    "Function",
    "Maximum",
    "Minimum",
    "Mul",
    "PRelu",
    "Sub",
    "Unary",
]


@dataclass(frozen=True, kw_only=True)
class Clamp(Op):
    """min(max(x, low), high); ReLU, ReLU6 and Clip before they are fused."""

    mnemonic: ClassVar[str] = "clamp"
    axis_use: ClassVar[AxisUse | None] = AxisUse.NONE
    x = Operand(0)

    clamp: ClampRange = NO_CLAMP

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return inputs[0]


class Function(enum.Enum):
    """Unary functions; `alpha` and `beta` are parameters where the name needs them."""

    LEAKY_RELU = "leaky_relu"  # x if x >= 0 else alpha * x
    ELU = "elu"  # x if x >= 0 else alpha * (exp(x) - 1)
    SELU = "selu"  # beta * elu(x, alpha); ONNX calls beta gamma
    CELU = "celu"  # max(0, x) + min(0, alpha * (exp(x / alpha) - 1))
    SIGMOID = "sigmoid"
    HARD_SIGMOID = "hard_sigmoid"  # clip(alpha * x + beta, 0, 1)
    HARD_SWISH = "hard_swish"  # x * clip(x / 6 + 1/2, 0, 1)
    SILU = "silu"  # x * sigmoid(alpha * x)
    TANH = "tanh"
    SOFTPLUS = "softplus"
    SOFTSIGN = "softsign"
    MISH = "mish"
    GELU = "gelu"  # exact, with erf
    GELU_TANH = "gelu_tanh"  # the tanh approximation
    ERF = "erf"
    EXP = "exp"
    LOG = "log"
    SQRT = "sqrt"
    RECIPROCAL = "reciprocal"
    NEG = "neg"
    ABS = "abs"
    POW = "pow"  # x ** alpha
    SIN = "sin"
    COS = "cos"
    ATAN = "atan"
    SINH = "sinh"
    COSH = "cosh"
    ASINH = "asinh"
    SHRINK = "shrink"  # x - beta if x > alpha, x + beta if x < -alpha, else 0
    THRESHOLDED_RELU = "thresholded_relu"  # x if x > alpha else 0
    FLOOR = "floor"
    CEIL = "ceil"
    ROUND = "round"  # half to even
    SIGN = "sign"
    AFFINE = "affine"  # alpha * x + beta


UP_TO_ONE = frozenset((Function.SIGMOID, Function.HARD_SIGMOID, Function.TANH, Function.SOFTSIGN))
"""Functions whose values come near 1 in magnitude, and never pass it."""


@dataclass(frozen=True, kw_only=True)
class Unary(Op):
    """A function of one value; becomes a 256-entry table."""

    mnemonic: ClassVar[str] = "unary"
    axis_use: ClassVar[AxisUse | None] = AxisUse.NONE
    x = Operand(0)

    function: Function
    alpha: float = 1.0
    beta: float = 0.0

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class PRelu(Op):
    """x if x >= 0 else slope * x; slope is constant and broadcasts to x."""

    mnemonic: ClassVar[str] = "prelu"
    axis_use: ClassVar[AxisUse | None] = AxisUse.NONE
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    slope = Operand(1)

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, slope = inputs
        expect_float(*inputs)
        expect(
            broadcast_shapes([x.shape, slope.shape]) == x.shape,
            f"slope {slope} does not broadcast to {x}",
        )
        return x


@dataclass(frozen=True, kw_only=True)
class Binary(Op):
    """A broadcasting op on two values, then a clamp."""

    axis_use: ClassVar[AxisUse | None] = AxisUse.NONE
    arity: ClassVar[int | None] = 2
    a = Operand(0)
    b = Operand(1)

    clamp: ClampRange = NO_CLAMP

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        return inputs[0].with_shape(broadcast_shapes([t.shape for t in inputs]))


@dataclass(frozen=True, kw_only=True)
class Add(Binary):
    """clamp(a + b)"""

    mnemonic: ClassVar[str] = "add"


@dataclass(frozen=True, kw_only=True)
class Sub(Binary):
    """clamp(a - b)"""

    mnemonic: ClassVar[str] = "sub"


@dataclass(frozen=True, kw_only=True)
class Mul(Binary):
    """clamp(a * b)"""

    mnemonic: ClassVar[str] = "mul"


@dataclass(frozen=True, kw_only=True)
class Div(Binary):
    """clamp(a / b)"""

    mnemonic: ClassVar[str] = "div"


@dataclass(frozen=True, kw_only=True)
class Minimum(Binary):
    """clamp(min(a, b))"""

    mnemonic: ClassVar[str] = "minimum"

    @property
    def copies_integers(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Maximum(Binary):
    """clamp(max(a, b))"""

    mnemonic: ClassVar[str] = "maximum"

    @property
    def copies_integers(self) -> bool:
        return True
