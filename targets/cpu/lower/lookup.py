"""Fusing a table of 256 entries into the epilogue of the convolution before it.

SiLU, hard-swish, sigmoid ... of a convolution's result: four registers hold the table (AVX-512
VBMI), so that the lookup costs less than the pass over memory that it saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QWeighted, Table
from qcomp.ir.tensor import TensorId
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.lower.i16.types import is_i16
from qcomp.targets.cpu.machine import Fusion, Isa


@dataclass(frozen=True, eq=False)
class Lookup:
    """The lookup that is absorbed, and its table, i8 [256]."""

    result: TensorId
    table: NDArray[np.int8]


def fused_lookups(graph: Graph, isa: Isa) -> Mapping[TensorId, Lookup]:
    """By the id of the convolution or dense layer that absorbs the lookup."""
    if Fusion.LOOKUP not in isa.machine.fusions:
        return {}
    found: dict[TensorId, Lookup] = {}
    for op in graph.ops():
        if isinstance(op, QWeighted) and op.requantize.form is Form.NARROW:
            table = graph.sole_consumer(op.output)
            if isinstance(table, Table) and not is_i16(graph, table):
                found[op.id] = Lookup(table.output, graph.data(table.table))
    return found
