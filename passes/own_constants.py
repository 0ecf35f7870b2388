"""Give one op new numbers for a constant that other ops may share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import TensorId, constant

F64 = NDArray[np.float64]


def own_constant(graph: Graph, reader: Op, id: TensorId, data: F64) -> TensorId:
    """`data`, rounded to float32, under the same id where only `reader` reads it, else under a new.

    The shape must be the constant's. The caller puts the returned id among the reader's operands.
    """
    rounded = data.astype(np.float32)
    if graph.is_output(id) or [op.id for op in graph.consumers(id)] != [reader.id]:
        return graph.add_constant(id, rounded)
    graph.update_tensor(constant(id, rounded))
    return id


def fits_float32(*arrays: F64) -> bool:
    """Whether all values stay finite when they are rounded to float32."""
    with np.errstate(over="ignore"):
        return all(bool(np.isfinite(a.astype(np.float32)).all()) for a in arrays)
