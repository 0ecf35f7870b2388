"""Statistics without data, from what batch normalisation says of a network's activations.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
section 4: a batch normalisation gives each channel mean beta and standard deviation |gamma|, so its
range is beta +- 6 |gamma|. Folding keeps that with the tensor (`NormalStatistics`). From there
every op hands a belief to its result (propagate.py). A convolution without statistics has

    mean = W E[x] + b,    variance = W^2 Var[x] with independent inputs;

of the taps on one channel, which see neighbouring and so similar values, it is assumed that they
are independent or equal, whichever gives the larger variance. Averaging keeps the variance for the
same reason. The range of the inputs is no property of the network and must be given or assumed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.calibration.normal import clamped, normal, uniform
from qcomp.calibration.propagate import Beliefs
from qcomp.calibration.statistics import Statistics, float_activations, mnemonics, weighted_operands
from qcomp.errors import CalibrationError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import NO_CLAMP, BatchNorm, Binary, Clamp, Op, Weighted
from qcomp.ir.tensor import DType, NormalStatistics, TensorId
from qcomp.ir.widths import of_16_bits
from qcomp.quant.moments import Moments

ASSUMED_INPUT_RANGE = (-1.0, 1.0)


def ranges_from_batch_norm(
    graph: Graph,
    input_ranges: Mapping[str, tuple[float, float]] | None = None,
    *,
    assumed_input_range: tuple[float, float] = ASSUMED_INPUT_RANGE,
) -> Statistics:
    """Statistics of a FLOAT graph; an input without a given range gets the assumed one, and a note.

    CalibrationError if the graph has no batch-norm statistics at all, or an op can't be bounded.
    """
    given = dict(input_ranges or {})
    beliefs = _beliefs(graph, given, assumed_input_range)
    low, high = assumed_input_range
    return Statistics(
        mnemonics=mnemonics(graph),
        implied={id: beliefs.known[id].range for id in float_activations(graph)},
        channel_means={id: beliefs.read(id).mean for id in weighted_operands(graph)},
        of_16_bits=of_16_bits(graph),
        notes=tuple(
            f"input {name}: assumed to be in [{low:g}, {high:g}] without data"
            for name in graph.inputs
            if name not in given
        ),
    )


def moments_from_batch_norm(
    graph: Graph, *, assumed_input_range: tuple[float, float] = ASSUMED_INPUT_RANGE
) -> dict[TensorId, Moments]:
    """Moments of all f32 activations of a FLOAT graph, per channel; errors as above."""
    beliefs = _beliefs(graph, {}, assumed_input_range)
    return {id: beliefs.read(id) for id in float_activations(graph)}


def _beliefs(
    graph: Graph,
    given: Mapping[str, tuple[float, float]],
    assumed_input_range: tuple[float, float],
) -> Beliefs:
    """About every f32 activation."""
    _check(graph, given)
    beliefs = Beliefs(graph)
    for name, id in graph.inputs.items():
        beliefs.known[id] = uniform(*given.get(name, assumed_input_range))
    for op in graph.ops():
        if graph.type(op.output).dtype is DType.F32:
            known = graph.tensor(op.output).normal
            beliefs.known[op.output] = beliefs.infer(op) if known is None else _imposed(op, known)
    return beliefs


def _imposed(op: Op, known: NormalStatistics) -> Moments:
    clamp = op.clamp if isinstance(op, Weighted | Binary | Clamp) else NO_CLAMP
    return clamped(normal(known.mean, np.abs(known.std)), clamp)


def _check(graph: Graph, given: Mapping[str, tuple[float, float]]) -> None:
    if not any(t.normal is not None for t in graph.tensors()) and not any(
        isinstance(op, BatchNorm) for op in graph.ops()
    ):
        raise CalibrationError(
            f"@{graph.name} has no batch-norm statistics to take ranges from; give calibration "
            "data: an iterable of arrays, a directory of .npy files, or an .npz file"
        )
    for name, (low, high) in given.items():
        if name not in graph.inputs:
            raise CalibrationError(
                f"no input is named {name}; expected one of {', '.join(graph.inputs)}"
            )
        if not (np.isfinite([low, high]).all() and low <= high):
            raise CalibrationError(
                f"input {name}: range ({low}, {high}); expected finite numbers, the lower one first"
            )
