"""Give layers scales that are found while the network runs: of each token, of each image.

    W x + b = a * (W (x / a)) + b,    a = max|x|

over the last axis for dense layers, over all axes but the first for convolutions. What the layer
reads is then within [-1, 1] whatever the data, and rounded to 8 bits in steps of a / 127 ("dynamic
quantization" in ONNX Runtime and PyTorch; of each token: Yao et al., "ZeroQuant", NeurIPS 2022,
section 4.1). x itself keeps 16 bits, as have a and the product before it is scaled up
(qcomp/ir/ops/dynamic.py). The layer keeps its id, so that what was said of its weights is said of
them still; its result becomes the operand of a scale_up, which takes the bias and the clamp.

Layers that read one tensor share its maximum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.config import DYNAMIC, QuantizationConfig
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import NO_CLAMP, AbsMax, Conv2d, ScaleDown, ScaleUp, Weighted
from qcomp.ir.tensor import TensorId
from qcomp.passes.events import PassLog

Axes = tuple[int, ...]


@dataclass(frozen=True)
class ScaleDynamically:
    """Of the layers for which `config.at(its id, its mnemonic).activations` is "dynamic"."""

    name: ClassVar[str] = "scale-dynamically"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    config: QuantizationConfig

    def run(self, graph: Graph, log: PassLog) -> None:
        scaled: dict[tuple[TensorId, Axes], tuple[TensorId, TensorId]] = {}
        for id in [op.id for op in graph.ops() if isinstance(op, Weighted)]:
            op = graph.op(id)  # what it reads may be the result of a layer before, scaled up
            assert isinstance(op, Weighted)
            if self.config.at(op.id, op.mnemonic).activations != DYNAMIC:
                log.skipped(op.id, "activations are static")
            elif reason := _unscalable(graph, op):
                log.skipped(op.id, reason)
            else:
                key = op.x, _axes(graph, op)
                if key not in scaled:
                    scaled[key] = _scaled_down(graph, *key)
                _scale_up(graph, op, *scaled[key])
                log.did(f"{op.id}: a scale for each {_of(op)} of %{key[0]}", op=op.id)


def _unscalable(graph: Graph, op: Weighted) -> str | None:
    """The reason this layer must stay as it is, or None."""
    if graph.is_kept(op):
        return "it is kept in floats"
    if isinstance(graph.producer(op.x), ScaleDown):
        return "it has a scale that is found at run time already"
    if math.prod(graph.type(op.weight).shape[1:]) == 1:
        return "it multiplies each channel by a number, and sums nothing up"
    if graph.is_constant(op.x):
        return f"%{op.x} is a constant"
    return None


def _axes(graph: Graph, op: Weighted) -> Axes:
    rank = graph.type(op.x).rank
    return tuple(range(1, rank)) if isinstance(op, Conv2d) else (rank - 1,)


def _of(op: Weighted) -> str:
    return "image" if isinstance(op, Conv2d) else "row"


def _scaled_down(graph: Graph, x: TensorId, axes: Axes) -> tuple[TensorId, TensorId]:
    """x over its maximum, and the maximum."""
    largest = graph.add_op(AbsMax(inputs=(x,), output=graph.fresh_id(f"{x}.max"), axes=axes))
    down = ScaleDown(inputs=(x, largest), output=graph.fresh_id(f"{x}.scaled"))
    return graph.add_op(down), largest


def _scale_up(graph: Graph, op: Weighted, x: TensorId, scale: TensorId) -> None:
    """What the model has of the layer's result is what is scaled up."""
    found, up = graph.tensor(op.output), graph.fresh_id(f"{op.id}.result")
    zeros = graph.add_constant(f"{op.id}.no_bias", np.zeros_like(graph.data(op.bias)))
    product = replace(op, inputs=(x, op.weight, zeros), clamp=NO_CLAMP)
    graph.replace_op(product, origin=None, normal=None)
    graph.add_op(ScaleUp(inputs=(op.output, scale, op.bias), output=up, clamp=op.clamp))
    graph.update_tensor(replace(graph.tensor(up), origin=found.origin, normal=found.normal))
    graph.replace_uses(op.output, up)
