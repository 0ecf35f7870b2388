"""Statistics of the activations of a float graph, from data or from batch norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.estimators import estimator_of
from qcomp.calibration.sampled import SampledMeans
from qcomp.config import QuantizationConfig
from qcomp.errors import CalibrationError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import ScaleDown, Weighted
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import Array, DType, TensorId
from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.integer_grid import IntegerGrid
from qcomp.quant.qparams import SUM_BITS

BATCH_NORM = "batchnorm"

HEADROOM = 1.5
"""Of a measured range at 16 bits, whose steps are so fine that what calibration has not seen
matters more: without it saturation is 12 to 30 dB above the rounding (MobileNetV2, ResNet-20)."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Summaries of all f32 activations, from which any estimator's range can be asked.

    `mnemonics` has every f32 activation, with the mnemonic of the op that makes it (None: an
    input). `distributions` are measured, and `implied` are the ranges that batch-norm statistics
    imply; either may be empty, and `unimplied` says why the latter is. `channel_means` [C] are
    those of the tensors that Conv2d and Dense read, and `sampled` those of what they give where
    there is data. `reaches` has the largest |z| of each normalisation, with HEADROOM. `samples`
    counts runs of the graph, 0 without data; `kept` holds the inputs of the first few, by public
    name; `of_16_bits` are activations that have these whatever is asked for; `notes` are the
    assumptions made.
    """

    mnemonics: Mapping[TensorId, str | None]
    channel_means: Mapping[TensorId, NDArray[np.float64]]
    distributions: Mapping[TensorId, Distribution] = field(default_factory=dict)
    implied: Mapping[TensorId, Range] = field(default_factory=dict)
    unimplied: str = ""
    sampled: SampledMeans | None = None
    reaches: Mapping[TensorId, float] = field(default_factory=dict)
    samples: int = 0
    kept: tuple[Mapping[str, Array], ...] = ()
    of_16_bits: frozenset[TensorId] = frozenset()
    notes: tuple[str, ...] = ()
    _found: dict[tuple[TensorId, str, IntegerGrid], Range] = field(default_factory=dict, repr=False)

    def range(
        self, id: TensorId, estimator: str, *, bits: int = 8, symmetric: bool = False
    ) -> Range:
        """The range of an activation by one estimator; each is computed once.

        At 16 bits a measured range is widened by HEADROOM on both sides, at 32, which squares of
        such values have, by its square.

        CalibrationError for an estimator that does not exist or has nothing to go by.
        """
        if id not in self.mnemonics:
            raise CalibrationError(f"%{id} is no f32 activation that was calibrated")
        if estimator == BATCH_NORM:
            return self._implied_range(id)
        grid = IntegerGrid.of(bits, symmetric=symmetric)
        key = id, estimator, grid
        if key not in self._found:
            self._found[key] = self._measured_range(id, estimator, grid)
        return self._found[key]

    def ranges(self, config: QuantizationConfig) -> dict[TensorId, Range]:
        """The range of every activation as `config` has it; an interval is taken as it is.

        Activations of 16 and 32 bits are symmetric. Those of 32 hold the largest value: their
        steps are too fine for a clip to gain anything.
        """
        found = {}
        for id, mnemonic in self.mnemonics.items():
            own = config.at(id, mnemonic)
            if isinstance(own.range, tuple):
                found[id] = own.range
            else:
                bits = 16 if id in self.of_16_bits else own.decided_activation_bits
                symmetric = own.symmetric_activations or bits > 8
                whole = bits == SUM_BITS and own.range != BATCH_NORM
                estimator = "minmax" if whole else own.range
                found[id] = self.range(id, estimator, bits=bits, symmetric=symmetric)
        return found

    def _implied_range(self, id: TensorId) -> Range:
        if not self.implied:
            raise CalibrationError(f"range={BATCH_NORM!r}: {self.unimplied}")
        return self.implied[id]

    def _measured_range(self, id: TensorId, estimator: str, grid: IntegerGrid) -> Range:
        if not self.distributions:
            raise CalibrationError(
                f"range={estimator!r} needs calibration data; without it, ranges can only come "
                f"from batch normalisation: range={BATCH_NORM!r}"
            )
        low, high = estimator_of(estimator)(self.distributions[id], grid)
        room = HEADROOM if grid.steps >= 2**16 - 1 else 1.0
        if grid.steps >= 2**32 - 1:
            room **= 2
        return low * room, high * room


def float_activations(graph: Graph) -> list[TensorId]:
    """The f32 inputs and op results, in creation order."""
    return [t.id for t in graph.tensors() if not t.is_constant and t.type.dtype is DType.F32]


def with_all_results(graph: Graph) -> Graph:
    """The graph with every f32 result as an output; inputs and outputs go by their tensor ids."""
    return with_outputs(graph, [t for t in float_activations(graph) if graph.producer(t)])


def float_outputs(graph: Graph) -> dict[str, TensorId]:
    """The f32 outputs that are computed, by public name."""
    return {
        name: id
        for name, id in graph.outputs.items()
        if graph.type(id).dtype is DType.F32 and not graph.is_constant(id)
    }


def mnemonics(graph: Graph) -> dict[TensorId, str | None]:
    """The mnemonic of the op that makes each f32 activation, in creation order."""
    producers = {id: graph.producer(id) for id in float_activations(graph)}
    return {id: None if op is None else op.mnemonic for id, op in producers.items()}


def weighted_operands(graph: Graph) -> list[TensorId]:
    """The tensors that convolutions and dense layers read, also before these are scaled down, each
    once, in order.
    """
    read = (op.x for op in graph.ops() if isinstance(op, Weighted | ScaleDown))
    return [t for t in dict.fromkeys(read) if not graph.is_constant(t)]
