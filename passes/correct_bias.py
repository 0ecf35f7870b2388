"""Take back the mean error that rounded weights put on each output channel.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
section 4.2. With W~ the weights as quantized and eps = W~ - W, the output moves on average by

    E[W~ x + b] - E[W x + b]  =  eps E[x],

which a bias of b - eps E[x] undoes. E[x] is one number per input channel, so for a convolution eps
is first summed over its taps. That takes each tap to see the mean of the whole image: zeros that
padding puts at the border, where a tap sees less, are neglected.

The means are those of the float graph, measured or, without data, propagated from batch-norm
statistics as the paper does (qcomp/calibration/batch_norm.py). In the QDQ graph an operand is read
back through dequantize and quantize, and the float tensor before them still has its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dense, Dequantize, Quantize, Weighted
from qcomp.ir.tensor import Mark, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.qdq import (
    rounded_constant,
    rounding_grid,
    why_no_mean_error,
    why_not_rounded,
)

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class CorrectBias:
    """`channel_means` has E[x] per channel of the float tensors that Conv2d and Dense read.

    `weights` has W of each layer by its id, as no pass has rounded it (`float_weights`).
    """

    name: ClassVar[str] = "correct-bias"
    needs: ClassVar[Form] = Form.QDQ
    gives: ClassVar[Form] = Form.QDQ

    channel_means: Mapping[TensorId, F64]
    weights: Mapping[TensorId, NDArray[np.floating]]

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if not isinstance(op, Weighted):
                continue
            if reason := _uncorrectable(graph, op, self.channel_means):
                log.skipped(op.id, reason)
            elif op.id not in self.weights:
                log.skipped(op.id, "its weight before rounding is not known")
            else:
                mean = self.channel_means[_float_source(graph, op.x)]
                _correct(graph, op, self.weights[op.id], mean, log)


def float_weights(graph: Graph) -> dict[TensorId, NDArray[np.floating]]:
    """The weights of a float graph's layers, by the layers' ids."""
    return {op.id: graph.data(op.weight) for op in graph.ops() if isinstance(op, Weighted)}


def _uncorrectable(graph: Graph, op: Weighted, means: Mapping[TensorId, F64]) -> str | None:
    """The reason this op must keep its bias, or None."""
    if reason := why_not_rounded(graph, op.weight) or why_not_rounded(graph, op.bias):
        return reason
    bias = rounded_constant(graph, op.bias)
    if Mark.CORRECTED in graph.tensor(bias.x).marks:
        return f"its bias %{bias.x} is corrected already"
    if reason := why_no_mean_error(graph, op):
        return reason
    if graph.sole_consumer(bias.output) is None:
        return f"its bias %{bias.output} has other users"
    source = _float_source(graph, op.x)
    if source not in means:
        return f"no channel means of %{source}"
    channels = graph.type(op.x).shape[-1]
    if means[source].shape != (channels,):
        return f"channel means of %{source} are {means[source].shape}, expected ({channels},)"
    return None


def _float_source(graph: Graph, id: TensorId) -> TensorId:
    """The float tensor that a chain of dequantize and quantize approximates."""
    producer = graph.producer(id)
    while isinstance(producer, Dequantize | Quantize):
        id = producer.x
        producer = graph.producer(id)
    return id


def _correct(
    graph: Graph, op: Weighted, weight: NDArray[np.floating], mean: F64, log: PassLog
) -> None:
    bias = rounded_constant(graph, op.bias)
    shift = _expected_shift(op, _weight_error(graph, op.weight, weight), mean)
    corrected = (graph.data(bias.x).astype(np.float64) - shift).astype(np.float32)
    origin = graph.tensor(bias.x).marked(Mark.CORRECTED)
    id = graph.add_constant(f"{bias.x}.corrected", corrected, origin)
    graph.replace_op(bias.with_input(0, id))
    largest = float(np.max(np.abs(shift), initial=0.0))
    told = f"%{op.id}: bias moved by at most"
    if (step := _step(graph, op)) is None:
        log.did(f"{told} {largest:.3g}", op=op.id, moved=largest)
    else:
        steps = largest / step
        log.did(f"{told} {steps:.3g} output steps", op=op.id, moved=largest, steps=steps)


def _weight_error(graph: Graph, rounded: TensorId, weight: NDArray[np.floating]) -> F64:
    """eps = W~ - W in float64."""
    quantized = rounded_constant(graph, rounded)
    values = rounding_grid(graph, quantized).values(graph.data(quantized.x))
    return np.asarray(values - weight.astype(np.float64))


def _expected_shift(op: Weighted, error: F64, mean: F64) -> F64:
    """eps E[x] per output channel; of a grouped convolution each group sees its own channels."""
    if isinstance(op, Dense):
        return np.asarray(error @ mean)
    taps = error.sum(axis=(1, 2)).reshape(op.groups, -1, error.shape[3])
    return np.asarray(np.einsum("goi,gi->go", taps, mean.reshape(op.groups, -1))).reshape(-1)


def _step(graph: Graph, op: Weighted) -> float | None:
    """The scale of the result, where it is quantized."""
    for reader in graph.consumers(op.output):
        if (qparams := graph.tensor(reader.output).qparams) is not None:
            return qparams.scale
    return None
