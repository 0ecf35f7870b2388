"""How far normalised values reach, before gamma and beta, in each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcomp.ir.evaluate.normalization import normalized
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Normalize
from qcomp.ir.tensor import Array, TensorId


@dataclass(frozen=True, eq=False)
class Reaches:
    """The largest |z| of each normalisation of a FLOAT graph, by its result."""

    ops: Sequence[Normalize]
    largest: dict[TensorId, float] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph) -> Reaches:
        return Reaches([op for op in graph.ops() if isinstance(op, Normalize)])

    def update(self, values: Mapping[TensorId, Array]) -> None:
        """Take the values of a run."""
        for op in self.ops:
            z = float(np.abs(normalized(op, values[op.x])).max())
            self.largest[op.output] = max(z, self.largest.get(op.output, 0.0))
