"""What every op is: a frozen record of its inputs, its output and decoded attributes."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self, overload

from qcomp.ir.tensor import DType, TensorId, TensorType

__all__ = [
    "NO_CLAMP",
    "RELU",
    "RELU6",
    "AxisUse",
    "ClampRange",
    "Domain",
    "Op",
    "Operand",
    "broadcast_shapes",
]


class Domain(enum.Enum):
    """Where an op may stand: on floats, on integers, on either, or at the border of the two."""

    FLOAT = "float"
    INTEGER = "integer"
    ANY = "any"
    BORDER = "border"


class AxisUse(enum.Enum):
    """Which axes an op tells from the others, where no attribute of it names them."""

    NONE = "each element by itself"
    LAST = "the last axis"
    LAST_TWO = "the last two axes"
    ALL = "NHWC"


class Operand:
    """Descriptor: `op.x` is `op.inputs[0]`."""

    def __init__(self, index: int) -> None:
        self.index = index

    @overload
    def __get__(self, op: None, owner: type) -> Self: ...
    @overload
    def __get__(self, op: Op, owner: type) -> TensorId: ...
    def __get__(self, op: Op | None, owner: type) -> Self | TensorId:
        return self if op is None else op.inputs[self.index]


@dataclass(frozen=True)
class ClampRange:
    """Saturation of a real result: ReLU is (0, inf), ReLU6 (0, 6), none (-inf, inf)."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"empty clamp ({self.low}, {self.high})")

    @property
    def is_none(self) -> bool:
        return self.low == -math.inf and self.high == math.inf

    def intersect(self, other: ClampRange) -> ClampRange:
        """`other` applied after `self`."""
        low = min(max(self.low, other.low), other.high)
        return ClampRange(low, max(min(self.high, other.high), low))


NO_CLAMP = ClampRange()
RELU = ClampRange(0.0, math.inf)
RELU6 = ClampRange(0.0, 6.0)


class OperandError(ValueError):
    """Operand types that an op can't take; the verifier adds the op's line."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation with one result. The op's id is its result's id (SSA)."""

    mnemonic: ClassVar[str]
    domain: ClassVar[Domain] = Domain.FLOAT
    axis_use: ClassVar[AxisUse | None] = None  # None: its attributes name axes
    arity: ClassVar[int | None] = 1
    constant_operands: ClassVar[tuple[int, ...]] = ()

    inputs: tuple[TensorId, ...]
    output: TensorId

    @property
    def id(self) -> TensorId:
        return self.output

    @property
    def copies_integers(self) -> bool:
        """Results are among the operands' integers, so that all of them have one scale."""
        return False

    @property
    def one_scale(self) -> tuple[TensorId, ...]:
        """The operands and results that have one scale, as integers are copied or compared."""
        return (*self.inputs, self.output) if self.copies_integers else ()

    @property
    def of_16_bits(self) -> tuple[TensorId, ...]:
        """The float operands and results that are quantized to 16 bits, whatever is asked for."""
        return ()

    def result_type(self, *inputs: TensorType) -> TensorType:
        """Shape inference and verifier rule in one; raises ValueError with what was expected."""
        raise NotImplementedError

    def with_input(self, index: int, tensor: TensorId) -> Self:
        inputs = list(self.inputs)
        inputs[index] = tensor
        return replace(self, inputs=tuple(inputs))


def expect(condition: bool, message: str) -> None:
    """Raise what the verifier reports when operand types do not fit."""
    if not condition:
        raise OperandError(message)


def expect_float(*types: TensorType) -> None:
    for t in types:
        expect(t.dtype is DType.F32, f"expected f32, got {t}")


def expect_activation(*types: TensorType) -> None:
    for t in types:
        expect(t.dtype in (DType.I8, DType.I16), f"expected i8 or i16, got {t}")


def expect_activation_or_sum(*types: TensorType) -> None:
    """Operands of the ops that know sums of 32 bits too."""
    for t in types:
        known = t.dtype in (DType.I8, DType.I16, DType.I32)
        expect(known, f"expected i8, i16 or i32, got {t}")


def activation_dtype(bits: int, *, sums: bool = False) -> DType:
    """The element type of a result of `bits` bits, of an op that may give `sums` of 32 or not."""
    known = "8, 16 or 32" if sums else "8 or 16"
    expect(bits in (8, 16) or (sums and bits == 32), f"a result of {bits} bits; expected {known}")
    return DType.activation(bits)


def broadcast_shapes(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Numpy broadcasting; the error names the shapes."""
    rank = max(len(s) for s in shapes)
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    result = []
    for extents in zip(*padded, strict=True):
        distinct = {e for e in extents if e != 1}
        expect(len(distinct) <= 1, f"shapes {list(shapes)} do not broadcast")
        result.append(distinct.pop() if distinct else 1)
    return tuple(result)


def window_size(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Positions of a window along one axis; at least one is expected."""
    extent = (kernel - 1) * dilation + 1
    result = (size + before + after - extent) // stride + 1
    expect(
        result >= 1,
        f"kernel extent {extent} exceeds the padded size {size + before + after}",
    )
    return result
