"""Tensors: typed, frozen records that the graph's tensor nodes carry."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.qparams import INTEGERS, QParams

TensorId = str
Array = NDArray[Any]


class DType(enum.Enum):
    """Element types, named as in the text format."""

    F32 = "f32"
    F64 = "f64"
    I8 = "i8"
    U8 = "u8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        return _NUMPY[self]

    @property
    def bytes(self) -> int:
        return self.numpy.itemsize

    @staticmethod
    def activation(bits: int) -> DType:
        """The type of a quantized activation of 8, 16 or 32 bits."""
        return DType.of(INTEGERS[bits])

    @staticmethod
    def of(dtype: np.dtype[Any]) -> DType:
        """The DType of a numpy dtype; ValueError if there is none."""
        for ours, theirs in _NUMPY.items():
            if theirs == dtype:
                return ours
        raise ValueError(f"no element type for numpy dtype {dtype}")


_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.F32: np.dtype(np.float32),
    DType.F64: np.dtype(np.float64),
    DType.I8: np.dtype(np.int8),
    DType.U8: np.dtype(np.uint8),
    DType.I16: np.dtype(np.int16),
    DType.I32: np.dtype(np.int32),
    DType.I64: np.dtype(np.int64),
    DType.BOOL: np.dtype(np.bool_),
}


FLOATS = (DType.F32, DType.F64)


@dataclass(frozen=True)
class TensorType:
    """Element type and static shape; prints as `f32[1,4,4,3]`."""

    dtype: DType
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype.value}[{','.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.bytes

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)


@dataclass(frozen=True, eq=False)
class NormalStatistics:
    """Per-channel mean and standard deviation [C] that a batch normalisation imposed on a value.

    They describe the producing op's result before its clamp, in real units.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class Mark(enum.Enum):
    """A rewrite after which a tensor no longer has the values of its origin, named as in the text.

    Permutations and scales per channel have fields of their own.
    """

    UNSIGNED = "unsigned"  # the model has its bytes without a sign, 128 more than ours
    IMPORTED = "imported"  # the importer computed it from the constant of that name
    RESHAPED = "reshaped"  # after the permutation
    REORDERED = "reordered"  # its elements are in an order that is no permutation of axes
    FOLDED = "folded"  # products and sums per channel were folded in
    CLAMPED = "clamped"  # a clamp behind it was fused in
    EQUALIZED = "equalized"  # a weight or bias, by factors per channel
    CUT = "cut"  # some of its channels
    SILENCED = "silenced"  # dead channels became constants
    ABSORBED = "bias-absorbed"
    ROUNDED = "rounded"
    CORRECTED = "bias-corrected"
    FITTED = "weights-fitted"


@dataclass(frozen=True, eq=False)
class Origin:
    """The tensor of the imported model that a tensor stands for, and what became of it.

    name: as the model has it; None: the model has no such tensor.
    permutation: axis i of the tensor is axis permutation[i] of the model's; None: as in the model.
    scale: the model's values times these are the tensor's, along the last axis; None: 1.
    rewritten_by: what else was done to the values, in order.
    """

    name: str | None
    permutation: tuple[int, ...] | None = None
    scale: NDArray[np.float64] | None = None
    rewritten_by: tuple[Mark, ...] = ()

    def marked(self, mark: Mark) -> Origin:
        """After one more rewrite; each is told once."""
        if mark in self.rewritten_by:
            return self
        return replace(self, rewritten_by=(*self.rewritten_by, mark))

    def permuted(self, permutation: tuple[int, ...]) -> Origin:
        """Of the transposed tensor; what was reshaped or scaled before is reordered by it."""
        if permutation == tuple(range(len(permutation))):
            return self
        if Mark.RESHAPED in self.rewritten_by or self.scale is not None:
            return self.marked(Mark.REORDERED)
        before = self.permutation or tuple(range(len(permutation)))
        after = tuple(before[axis] for axis in permutation)
        return replace(self, permutation=None if after == tuple(sorted(after)) else after)

    def scaled(self, factors: NDArray[np.float64]) -> Origin:
        """Of the tensor times these, along the last axis."""
        return replace(self, scale=factors if self.scale is None else self.scale * factors)


@dataclass(frozen=True, eq=False)
class Tensor:
    """One value. A constant has `data` (read-only) and no producer.

    `range` is the calibrated real interval (ANNOTATED form); `qparams` the affine parameters of an
    i8, i16 or i32 activation (QDQ and INTEGER forms); `normal` what a folded batch normalisation
    told of it (a hint for data-free passes); `origin` the tensor of the imported model that it
    stands for, None where nothing is known of it; `kept` marks an f32 result that is computed in
    floats in every form.
    """

    id: TensorId
    type: TensorType
    data: Array | None = None
    range: tuple[float, float] | None = None
    qparams: QParams | None = None
    normal: NormalStatistics | None = None
    origin: Origin | None = None
    kept: bool = False

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def marks(self) -> tuple[Mark, ...]:
        """How its values were rewritten."""
        return () if self.origin is None else self.origin.rewritten_by

    def marked(self, mark: Mark) -> Origin:
        """The origin of what a rewrite makes of this tensor."""
        return (self.origin or Origin(None)).marked(mark)


def constant(id: TensorId, data: Array, origin: Origin | None = None) -> Tensor:
    """A constant tensor; its array becomes read-only."""
    data = np.ascontiguousarray(data).reshape(data.shape)
    data.flags.writeable = False
    return Tensor(id, TensorType(DType.of(data.dtype), data.shape), data=data, origin=origin)
