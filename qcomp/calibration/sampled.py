"""What layers give on average at some positions of each run, as the layers behind them see it.

Two networks are compared at the same positions of the same runs, so that their means differ by what
differs between the networks, and not by chance.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Minimum, PRelu, Weighted
from qcomp.ir.tensor import Array, DType, TensorId

F64 = NDArray[np.float64]

RUNS = 100  # with 32, maps of few pixels have too rough means: MobileNetV2 loses 1.4 dB
ROWS = 8192  # of all runs; those of one image are alike, so that a mean takes many


@dataclass(frozen=True)
class Positions:
    """Which positions of a tensor [..., C] are taken: `count` of each sample, drawn once."""

    tensor: TensorId
    extents: tuple[int, ...]
    count: int
    _drawn: dict[int, NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)

    def of(self, sample: int) -> NDArray[np.int64]:
        """Flat positions in the result of one sample, ascending."""
        if sample not in self._drawn:
            self._drawn[sample] = self._draw(sample)
        return self._drawn[sample]

    def _draw(self, sample: int) -> NDArray[np.int64]:
        total = int(np.prod(self.extents))
        if self.count >= total:
            return np.arange(total)
        random = np.random.default_rng([zlib.crc32(self.tensor.encode()), sample])
        return np.sort(random.choice(total, self.count, replace=False))


def positions(graph: Graph, id: TensorId, count: int) -> Positions:
    """Some of a tensor's."""
    return Positions(id, graph.type(id).shape[:-1], count)


@dataclass(frozen=True, eq=False)
class SampledMeans:
    """Means at `places` of the first RUNS runs, for each run [C]."""

    places: Mapping[TensorId, Positions]
    _means: dict[TensorId, list[F64]] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, runs: int) -> SampledMeans:
        """For a FLOAT graph that will run so often: of all that layers give, and of PReLUs and
        minima, through which the layers behind may see it.
        """
        count = -(-ROWS // max(min(runs, RUNS), 1))
        made = [op.output for op in graph.ops() if isinstance(op, Weighted | PRelu | Minimum)]
        floats = [id for id in made if graph.type(id).dtype is DType.F32 and graph.type(id).rank]
        return SampledMeans({id: positions(graph, id, count) for id in floats})

    def update(self, run: int, values: Mapping[TensorId, Array]) -> None:
        """Take the results of a run; they come in order."""
        if run >= RUNS:
            return
        for id, place in self.places.items():
            rows = values[id].reshape(-1, values[id].shape[-1])[place.of(run)]
            self._means.setdefault(id, []).append(rows.mean(axis=0, dtype=np.float64))

    def mean(self, id: TensorId, runs: int) -> F64:
        """Of the first runs [C]."""
        return np.asarray(np.mean(self._means[id][:runs], axis=0))
