"""Source of activation statistics: calibration samples if given, else batch-norm statistics."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from qcomp.calibration.batch_norm import moments_from_batch_norm, ranges_from_batch_norm
from qcomp.calibration.collect import collect
from qcomp.calibration.moments import SAMPLES, measured_moments, moments_of
from qcomp.calibration.samples import ConvertedSamples, Samples
from qcomp.calibration.statistics import Statistics
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.quant.moments import Moments


@dataclass(frozen=True)
class Evidence:
    """Calibration data; without any (None) the inputs are assumed to lie in `input_range`."""

    data: Samples | None
    input_range: tuple[float, float]
    progress: bool = False

    def inside(self, graph: Graph) -> Evidence:
        """For a graph that leaves some conversions to the floats outside."""
        if self.data is None or not graph.conversions:
            return self
        return replace(self, data=ConvertedSamples(self.data, graph.conversions))

    def statistics(self, graph: Graph) -> Statistics:
        """Ranges and distributions of every activation, over all samples."""
        if self.data is None:
            return ranges_from_batch_norm(graph, assumed_input_range=self.input_range)
        return collect(graph, self.data, progress=self.progress)

    def moments(self, graph: Graph) -> Mapping[TensorId, Moments]:
        """Per-channel moments of every f32 activation, over the first samples."""
        if self.data is None:
            return moments_from_batch_norm(graph, assumed_input_range=self.input_range)
        return measured_moments(graph, self.data.first(SAMPLES))

    def moments_of(self, graph: Graph, ids: Collection[TensorId]) -> Mapping[TensorId, Moments]:
        """Of some f32 activations, over the first samples."""
        if self.data is None:
            return moments_from_batch_norm(graph, assumed_input_range=self.input_range)
        return moments_of(graph, ids, self.data.first(SAMPLES))
