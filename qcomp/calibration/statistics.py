"""What calibration learns of a float graph, by whichever way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Conv2d, Dense
from qcomp.ir.tensor import Array, DType, TensorId


@dataclass(frozen=True, eq=False)
class Statistics:
    """Ranges of all f32 activations, and channel means [C] of those that Conv2d and Dense read.

    `samples` counts runs of the graph, 0 without data; `kept` holds the inputs of the first few, by
    public name; `notes` are the assumptions made.
    """

    ranges: Mapping[TensorId, tuple[float, float]]
    channel_means: Mapping[TensorId, NDArray[np.float64]]
    samples: int
    kept: tuple[Mapping[str, Array], ...] = ()
    notes: tuple[str, ...] = ()


def float_activations(graph: Graph) -> list[TensorId]:
    """The f32 inputs and op results, in creation order."""
    return [t.id for t in graph.tensors() if not t.is_constant and t.type.dtype is DType.F32]


def weighted_operands(graph: Graph) -> list[TensorId]:
    """The tensors that convolutions and dense layers read, each once, in order."""
    read = (op.x for op in graph.ops() if isinstance(op, Conv2d | Dense))
    return [t for t in dict.fromkeys(read) if not graph.is_constant(t)]
