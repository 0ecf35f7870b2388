"""Take back the mean error that rounded weights put on each output channel.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
section 4.2. With W~ the weights as quantized and eps = W~ - W, the output moves on average by

    E[W~ x + b] - E[W x + b]  =  eps E[x],

which a bias of b - eps E[x] undoes. E[x] is one number per input channel, so for a convolution eps
is first summed over its taps. That takes each tap to see the mean of the whole image: zeros that
padding puts at the border, where a tap sees less, are neglected.

Where x is scaled down by a scale that is found in each run, the result is scaled up by it, and so
E[x] is that before and the bias the one behind.

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
from qcomp.ir.ops import Dense, Dequantize, Op, Quantize, ScaleDown, ScaleUp, Weighted
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
                mean = self.channel_means[_read(graph, op)]
                _correct(graph, op, self.weights[op.id], mean, log)


def float_weights(graph: Graph) -> dict[TensorId, NDArray[np.floating]]:
    """The weights of a float graph's layers, by the layers' ids."""
    return {op.id: graph.data(op.weight) for op in graph.ops() if isinstance(op, Weighted)}


def _uncorrectable(graph: Graph, op: Weighted, means: Mapping[TensorId, F64]) -> str | None:
    """The reason this op must keep its bias, or None."""
    if reason := why_not_rounded(graph, op.weight) or why_not_rounded(graph, op.bias):
        return reason
    biased, index = _with_bias(graph, op)
    bias = biased.inputs[index]
    if Mark.CORRECTED in graph.tensor(bias).marks:
        return f"its bias %{bias} is corrected already"
    if reason := why_no_mean_error(graph, op):
        return reason
    if not isinstance(biased, ScaleUp) and graph.sole_consumer(biased.id) is None:
        return f"its bias %{biased.id} has other users"
    source = _read(graph, op)
    if source not in means:
        return f"no channel means of %{source}"
    channels = graph.type(op.x).shape[-1]
    if means[source].shape != (channels,):
        return f"channel means of %{source} are {means[source].shape}, expected ({channels},)"
    return None


def _read(graph: Graph, op: Weighted) -> TensorId:
    """The float tensor that a layer reads, before it is scaled down."""
    id = _float_source(graph, op.x)
    producer = graph.producer(id)
    return _float_source(graph, producer.x) if isinstance(producer, ScaleDown) else id


def _with_bias(graph: Graph, op: Weighted) -> tuple[Op, int]:
    """What has the layer's bias as it is, and which operand that is."""
    up = _scaled_up(graph, op)
    return (rounded_constant(graph, op.bias), 0) if up is None else (up, 2)


def _scaled_up(graph: Graph, op: Weighted) -> ScaleUp | None:
    """What scales the layer's result up."""
    reader = graph.sole_consumer(op.output)
    while isinstance(reader, Dequantize | Quantize):
        reader = graph.sole_consumer(reader.output)
    return reader if isinstance(reader, ScaleUp) else None


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
    biased, index = _with_bias(graph, op)
    bias = biased.inputs[index]
    shift = _expected_shift(op, _weight_error(graph, op.weight, weight), mean)
    corrected = (graph.data(bias).astype(np.float64) - shift).astype(np.float32)
    origin = graph.tensor(bias).marked(Mark.CORRECTED)
    id = graph.add_constant(f"{bias}.corrected", corrected, origin)
    graph.replace_op(biased.with_input(index, id))
    largest = float(np.max(np.abs(shift), initial=0.0))
    told = f"%{op.id}: bias moved by at most"
    up = _scaled_up(graph, op)
    if (step := _step(graph, op if up is None else up)) is None:
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


def _step(graph: Graph, op: Op) -> float | None:
    """The scale of the result, where it is quantized."""
    for reader in graph.consumers(op.output):
        if (qparams := graph.tensor(reader.output).qparams) is not None:
            return qparams.scale
    return None
