"""The inputs and outputs of the integer code, and the arrays that are given for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.quant.conversion import Conversion, dequantize_real, quantize_real
from qcomp.quant.qparams import INTEGERS, QParams, dequantize, quantize
from qcomp.quant.tail import Tail

Array = NDArray[Any]
Arrays = Array | Sequence[Array] | Mapping[str, Array]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the integer code, in the model's own layout.

    Its integers are in steps of `scale`; `conversion` is what stands between these values and the
    caller's, if anything does, and `tail` the function that comes last.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    bytes: int
    conversion: Conversion | None
    tail: Tail | None = None

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

    def quantized(self, real: Array) -> Array:
        """The integers of an input in the caller's units."""
        if self.conversion is None:
            return quantize(real, self.qparams)
        return quantize_real(real, self.qparams, self.conversion)

    def dequantized(self, integers: Array) -> Array:
        """An output in the caller's units."""
        if not self.is_quantized:
            return integers
        if self.conversion is None:
            real = dequantize(integers, self.qparams)
        else:
            real = dequantize_real(integers, self.qparams, self.conversion)
        return real if self.tail is None else self.tail(real)


def describe_tensors(graph: Graph, tensors: Mapping[str, str]) -> tuple[TensorInfo, ...]:
    """Infos of a graph's inputs or outputs."""
    infos = []
    for name, id in tensors.items():
        type, q = graph.type(id), graph.tensor(id).qparams
        scale, zero_point = (q.scale, q.zero_point) if q else (1.0, 0)
        infos.append(
            TensorInfo(
                name,
                type.shape,
                str(type.dtype.numpy),
                scale,
                zero_point,
                type.bytes,
                graph.conversions.get(name),
                graph.tails.get(name),
            )
        )
    return tuple(infos)
