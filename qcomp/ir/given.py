"""What a model brings along that is quantized: parameters of activations, integers of constants.

Activations are f32 tensors with qparams. The integers of a constant, which is f32 too, are known by
the name that the model has for its floats.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Binary, Op
from qcomp.ir.tensor import Array, DType, Mark, Origin, TensorId
from qcomp.quant.qparams import QParams


@dataclass(frozen=True, eq=False)
class GivenIntegers:
    """The constant scale * (integers - zero_point); both [C] along `axis`, or [1]."""

    integers: Array
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    axis: int

    def behind(self, data: Array, origin: Origin) -> GivenIntegers | None:
        """Those of floats of this origin, scales along axis 0; None where they stand for others.

        With one scale for all, values tell integers in whatever order they are now.
        """
        if self.scale.size == 1:
            steps = np.rint(data / np.float32(self.scale[0])).astype(np.int64) + self.zero_point
            limits = np.iinfo(self.integers.dtype)
            integers = np.clip(steps, limits.min, limits.max).astype(self.integers.dtype)
            found = GivenIntegers(integers, self.scale, self.zero_point, 0)
        else:
            moved = self._moved(origin)
            if moved is None or moved.integers.size != data.size:
                return None
            integers = moved.integers.reshape(data.shape)
            found = GivenIntegers(integers, self.scale, self.zero_point, 0)
        return found if found._stands_for(data) else None

    def _moved(self, origin: Origin) -> GivenIntegers | None:
        """With the axes of the origin, if the scales are along the first of them."""
        if origin.scale is not None or set(origin.rewritten_by) - {Mark.RESHAPED}:
            return None
        permutation = origin.permutation or tuple(range(self.integers.ndim))
        if permutation[:1] != (self.axis,):
            return None
        return replace(self, integers=self.integers.transpose(permutation), axis=0)

    def _stands_for(self, data: Array) -> bool:
        if self.scale.size not in (1, *data.shape[:1]):
            return False
        shape = (-1, *(1,) * (data.ndim - 1)) if data.ndim else ()
        zero, scale = self.zero_point.reshape(shape), self.scale.reshape(shape)
        values = (self.integers.astype(np.int64) - zero) * scale
        return np.array_equal(values.astype(np.float32), data)


def given_qparams(graph: Graph) -> Mapping[TensorId, QParams]:
    """Of the f32 inputs and results that have any."""
    return {
        t.id: t.qparams
        for t in graph.tensors()
        if not t.is_constant and t.type.dtype is DType.F32 and t.qparams is not None
    }


def is_quantized_already(graph: Graph) -> bool:
    """Whether some result has parameters; those of inputs alone say that they are integers."""
    return bool(given_qparams(graph).keys() - set(graph.inputs.values()))


def is_integer_pair(graph: Graph, op: Op, integers: Collection[str]) -> bool:
    """Whether an op is one of two operands that both are integers in the model.

    One has a scale of its own, and the other is a constant of `integers`, by the model's names.
    """
    if not integers or not isinstance(op, Binary):
        return False
    activations = [t for t in op.inputs if not graph.is_constant(t)]
    origins = [graph.tensor(t).origin for t in op.inputs if graph.is_constant(t)]
    return (
        len(activations) == len(origins) == 1
        and graph.tensor(activations[0]).qparams is not None
        and origins[0] is not None
        and origins[0].name in integers
    )
