"""What there is to know a float graph's values by: data, or batch-norm statistics without any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcomp.calibration.batch_norm import moments_from_batch_norm, ranges_from_batch_norm
from qcomp.calibration.collect import collect
from qcomp.calibration.moments import SAMPLES, measured_moments
from qcomp.calibration.samples import Samples
from qcomp.calibration.statistics import Statistics
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.quant.moments import Moments


@dataclass(frozen=True)
class Evidence:
    """`input_range` is assumed of the inputs where `data` is None; `progress` shows bars."""

    data: Samples | None
    input_range: tuple[float, float]
    progress: bool = False

    def statistics(self, graph: Graph) -> Statistics:
        """Of every activation, over all of the data."""
        if self.data is None:
            return ranges_from_batch_norm(graph, assumed_input_range=self.input_range)
        return collect(graph, self.data, progress=self.progress)

    def moments(self, graph: Graph) -> Mapping[TensorId, Moments]:
        """Of every f32 activation by channel, over some of the data."""
        if self.data is None:
            return moments_from_batch_norm(graph, assumed_input_range=self.input_range)
        return measured_moments(graph, self.data.first(SAMPLES))
