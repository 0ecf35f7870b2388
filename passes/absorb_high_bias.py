"""Let the next layer's bias take over what every value of a channel has in common.

    y = W2 relu(h) + b2 = W2 relu(h - c) + (b2 + W2 c)   wherever h >= c >= 0,
and h - c is W1 x + (b1 - c). With c = max(0, mean - 3 std) of the channel, that is nearly
everywhere if the values are normal (99.865 %), and the channel's range is shorter by c; smaller
values become c. A bound of the values, min(relu(h), m), becomes m - c.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.1.3. The second layer must see c everywhere: zeros that it pads with would have to become
-c, channel by channel. Absorbing regardless was tried and is wrong at the borders: a MobileNetV1
0.25 in float then has 14 dB at its outputs instead of 20.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import RELU, Conv2d, Minimum, Weighted
from qcomp.ir.tensor import Mark, NormalStatistics, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.linear_weights import (
    F64,
    fits_float32,
    per_input,
    weight_and_bias,
    with_numbers,
)
from qcomp.passes.lib.quantization_noise import MomentsOf
from qcomp.quant.moments import Moments

_WORTHWHILE = 0.1  # standard deviations


@dataclass(frozen=True)
class AbsorbHighBias:
    """`moments` measures the moments of all f32 activations of a float graph.

    `deviations` is how many standard deviations below the mean a value may lie and be exact.
    """

    name: ClassVar[str] = "absorb-high-bias"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    moments: MomentsOf
    deviations: float = 3.0

    def run(self, graph: Graph, log: PassLog) -> None:
        moments = self.moments(graph)
        for op in graph.ops():
            if not isinstance(op, Weighted):
                continue
            step = _step(graph, op)
            if isinstance(step, str):
                log.skipped(op.id, step)
                continue
            c = self._common(moments[step.second.x])
            if not c.any():
                log.skipped(op.id, "no channel's values stay away from zero")
            elif reason := _absorb(graph, step, c):
                log.skipped(op.id, reason)
            else:
                log.did(
                    f"{op.id} -> {step.second.id}: {np.count_nonzero(c)} of {c.size} channels, at "
                    f"most {c.max():.4g}",
                    op=op.id,
                    channels=int(np.count_nonzero(c)),
                    most=c.max(),
                )

    def _common(self, moments: Moments) -> F64:
        """c of each channel, 0 where it is not worth it."""
        c = moments.mean - self.deviations * moments.std
        return np.where(c > _WORTHWHILE * moments.std, c, 0.0)


@dataclass(frozen=True)
class _Step:
    """`second` reads what `first` gives, through `bound` if there is one."""

    first: Weighted
    bound: Minimum | None
    second: Weighted


def _step(graph: Graph, first: Weighted) -> _Step | str:
    """The layer behind `first` that can absorb its bias, or the reason that none can."""
    if first.clamp != RELU:
        return f"it clamps to ({first.clamp.low}, {first.clamp.high}), not to (0.0, inf)"
    reader = graph.sole_consumer(first.output)
    bound = None
    if isinstance(reader, Minimum) and any(graph.is_constant(t) for t in reader.inputs):
        bound, reader = reader, graph.sole_consumer(reader.output)
    if reader is None:
        return f"%{first.output if bound is None else bound.output} is not read by one op alone"
    if not isinstance(reader, Weighted):
        return f"its reader %{reader.id} ({reader.mnemonic}) is no convolution or dense layer"
    if isinstance(reader, Conv2d) and any(reader.padding):
        return f"%{reader.id} pads with zeros"
    return _Step(first, bound, reader)


def _absorb(graph: Graph, step: _Step, c: F64) -> str | None:
    """Move c from one bias to the other; the reason if the numbers don't allow it."""
    first, second = step.first, step.second
    w1, b1 = weight_and_bias(graph, first)
    w2, b2 = weight_and_bias(graph, second)
    taken = np.sum(w2 * per_input(c, w2, second.groups), axis=tuple(range(1, w2.ndim)))
    if not fits_float32(b1 - c, b2 + taken):
        return f"the biases absorbed by %{second.id} are not finite in float32"
    graph.set_inputs(first, with_numbers(graph, first, w1, b1 - c, Mark.ABSORBED))
    graph.set_inputs(second, with_numbers(graph, second, w2, b2 + taken, Mark.ABSORBED))
    _shift_statistics(graph, first.id, c)
    if step.bound is not None:
        graph.mark(step.bound.id, Mark.ABSORBED)
        _shift_bound(graph, step.bound, c)
    return None


def _shift_bound(graph: Graph, bound: Minimum, c: F64) -> None:
    """min(v, m) with v less by c: m is less by c too."""
    (constant,) = (t for t in bound.inputs if graph.is_constant(t))
    data = (graph.data(constant).astype(np.float64) - c).astype(np.float32)
    lowered = graph.add_constant(constant, data, graph.tensor(constant).marked(Mark.ABSORBED))
    graph.set_inputs(bound, tuple(lowered if t == constant else t for t in bound.inputs))


def _shift_statistics(graph: Graph, id: TensorId, c: F64) -> None:
    graph.mark(id, Mark.ABSORBED)
    tensor = graph.tensor(id)
    if (normal := tensor.normal) is not None:
        shifted = NormalStatistics(mean=normal.mean - c, std=normal.std)
        graph.update_tensor(replace(tensor, normal=shifted))
