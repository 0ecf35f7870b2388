"""Tensors: typed, frozen records that the graph's tensor nodes carry."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
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
        """The type of a quantized activation of 8 or 16 bits."""
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


@dataclass(frozen=True, eq=False)
class Tensor:
    """One value. A constant has `data` (read-only) and no producer.

    `range` is the calibrated real interval (ANNOTATED form); `qparams` the affine parameters of an
    i8 or i16 activation (QDQ and INTEGER forms); `normal` what a folded batch normalisation told of
    it (a hint for data-free passes, which the text form does not print); `kept` marks an f32 result
    that is computed in floats in every form.
    """

    id: TensorId
    type: TensorType
    data: Array | None = None
    range: tuple[float, float] | None = None
    qparams: QParams | None = None
    normal: NormalStatistics | None = None
    kept: bool = False

    @property
    def is_constant(self) -> bool:
        return self.data is not None


def constant(id: TensorId, data: Array) -> Tensor:
    """A constant tensor; its array becomes read-only."""
    data = np.ascontiguousarray(data).reshape(data.shape)
    data.flags.writeable = False
    return Tensor(id, TensorType(DType.of(data.dtype), data.shape), data=data)
