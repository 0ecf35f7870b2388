"""What layers give on average at some positions of each run, as the layers behind them see it.

Two networks are compared at the same positions of the same runs, so that their means differ by what
differs between the networks, and not by chance.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Minimum, PRelu, ScaleDown, Weighted
from qcomp.ir.tensor import Array, DType, TensorId

F64 = NDArray[np.float64]

RUNS = 100  # with 32, maps of few pixels have too rough means: MobileNetV2 loses 1.4 dB
ROWS = 4096  # of all runs; those of one image are alike, so that a mean takes many
SMALL = 64  # positions of a map that are all taken: it says more of the outputs than a large one


@dataclass(frozen=True)
class Positions:
    """Which positions of a tensor [..., C] are taken, of each sample: `count`, or all."""

    tensor: TensorId
    extents: tuple[int, ...]
    count: int

    def of(self, sample: int) -> NDArray[np.int64]:
        """Flat positions in the result of one sample, ascending."""
        total = math.prod(self.extents)
        drawn = _drawn(total, self.count, sample)
        return np.sort((drawn + zlib.crc32(self.tensor.encode())) % total)

    def rows(self, value: Array, sample: int) -> Array:
        """What a tensor has there in one sample [rows, C]."""
        rows = value.reshape(-1, value.shape[-1])
        return rows if self.count >= len(rows) else rows.take(self.of(sample), axis=0)


@lru_cache(maxsize=4096)
def _drawn(total: int, count: int, sample: int) -> NDArray[np.int64]:
    """Some numbers below `total`, one of each of `count` equal parts, always the same.

    Layers with maps of one size share them, and take them from where their names tell.
    """
    if count >= total:
        return np.arange(total)
    random = np.random.default_rng([total, sample])
    return ((np.arange(count) + random.random(count)) * (total / count)).astype(np.int64)


def positions(graph: Graph, id: TensorId, count: int) -> Positions:
    """Some of a tensor's, or all of a small map."""
    extents = graph.type(id).shape[:-1]
    return Positions(id, extents, SMALL if math.prod(extents) <= SMALL else count)


@dataclass(frozen=True, eq=False)
class SampledMeans:
    """Means at `places` of the first RUNS runs, for each run [C]."""

    places: Mapping[TensorId, Positions]
    _means: dict[TensorId, list[F64]] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, runs: int) -> SampledMeans:
        """For a FLOAT graph that will run so often: of all that layers read and give, and of PReLUs
        and minima, through which the layers behind may see it.
        """
        count = -(-ROWS // max(min(runs, RUNS), 1))
        ops = graph.ops()
        made = [op.output for op in ops if isinstance(op, Weighted | PRelu | Minimum)]
        reading = [op for op in ops if isinstance(op, Weighted | ScaleDown)]
        read = [op.x for op in reading if not graph.is_constant(op.x)]
        types = {id: graph.type(id) for id in (*made, *read)}
        floats = [id for id, type in types.items() if type.dtype is DType.F32 and type.rank]
        return SampledMeans({id: positions(graph, id, count) for id in floats})

    def update(self, run: int, values: Mapping[TensorId, Array]) -> None:
        """Take the results of a run; they come in order."""
        if run >= RUNS:
            return
        for id, place in self.places.items():
            rows = np.asarray(place.rows(values[id], run), np.float32)
            sums = np.ones(len(rows), np.float32) @ rows  # quicker than any sum along columns
            self._means.setdefault(id, []).append(sums.astype(np.float64) / len(rows))

    def mean(self, id: TensorId, runs: int) -> F64:
        """Of the first runs [C]."""
        return np.asarray(np.mean(self._means[id][:runs], axis=0))
