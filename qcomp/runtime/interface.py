"""The inputs and outputs of the integer code, and the arrays that are given for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.quant.qparams import INTEGERS, QParams

Array = NDArray[Any]
Arrays = Array | Sequence[Array] | Mapping[str, Array]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the integer code, in the model's own layout."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    bytes: int

    @property
    def is_quantized(self) -> bool:
        """Whether it stands for real numbers: int8 or int16, not the int32 of an index."""
        return np.dtype(self.dtype) in INTEGERS.values()

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest value of its type."""
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    @property
    def qparams(self) -> QParams:
        return QParams(self.scale, self.zero_point, *self.limits)


def describe_tensors(graph: Graph, tensors: Mapping[str, str]) -> tuple[TensorInfo, ...]:
    """Infos of a graph's inputs or outputs."""
    infos = []
    for name, id in tensors.items():
        type, q = graph.type(id), graph.tensor(id).qparams
        scale, zero_point = (q.scale, q.zero_point) if q else (1.0, 0)
        infos.append(
            TensorInfo(name, type.shape, str(type.dtype.numpy), scale, zero_point, type.bytes)
        )
    return tuple(infos)
