"""What snapped scales are for: a multiplier is the ratio of its scales without an error."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from network_builder import Builder
from numpy.typing import NDArray
from onnx import TensorProto, helper

import qcomp
from qcomp.ir.ops import QConv2d
from qcomp.quant.fixed_point import Form

SHAPE = [1, 16, 9, 9]
LAYERS = 3


def convolutions() -> tuple[onnx.ModelProto, list[NDArray[np.float64]]]:
    """Three layers with 48 output channels each of different ranges, and their weights, OIHW."""
    build, weights = Builder(opset=13), []
    y, channels = "x", SHAPE[1]
    for _ in range(LAYERS):
        weight = build.normal(48, channels, 3, 3) * build.random.uniform(0.5, 1.5, (48, 1, 1, 1))
        weights.append(weight.astype(np.float32).astype(np.float64))
        conv = build("Conv", y, weight, build.normal(48) * 0.1, pads=[1, 1, 1, 1])
        y, channels = build("Relu", conv), 48
    graph = helper.make_graph(
        build.nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 48, 9, 9])],
        build.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), weights


def moved_weights(snap: bool) -> float:
    """The share of weights that are not rounded with the scale that their multiplier stands for."""
    model, weights = convolutions()
    data = [np.random.default_rng(i).normal(size=SHAPE).astype(np.float32) for i in range(4)]
    config = qcomp.QuantizationConfig(
        recipe="fast", weight_range="minmax", equalize=False, snap_scales=snap
    )
    net = qcomp.compile(model, "sse4.1", calibration=data, config=config)
    graph, moved = net.graph, []
    layers = [op for op in graph.ops() if isinstance(op, QConv2d)]
    assert len(layers) == LAYERS
    for op, weight in zip(layers, weights, strict=True):
        x, y = graph.tensor(op.x).qparams, graph.tensor(op.output).qparams
        assert x is not None
        assert y is not None
        assert op.requantize.form is Form.NARROW
        factors = zip(
            graph.data(op.multiplier).tolist(), graph.data(op.shift).tolist(), strict=True
        )
        scales = [math.ldexp(m, -(k + 15)) * y.scale / x.scale for m, k in factors]
        stored = graph.data(op.weight).transpose(0, 3, 1, 2)
        exact = np.clip(np.rint(weight / np.reshape(scales, (-1, 1, 1, 1))), -127, 127)
        moved.append(np.mean(stored != exact))
    return float(np.mean(moved))


@pytest.mark.parametrize("snap", [True, False])
def test_a_multiplier_is_exactly_the_ratio_of_the_scales_that_it_joins(snap: bool) -> None:
    share = moved_weights(snap)
    assert share == 0.0 if snap else share > 1e-3
