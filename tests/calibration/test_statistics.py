"""What a configuration makes of the statistics of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.calibration.batch_norm import ranges_from_batch_norm
from qcomp.calibration.collect import collect, logits
from qcomp.calibration.statistics import HEADROOM
from qcomp.config import QuantizationConfig
from qcomp.errors import CalibrationError
from qcomp.ir import DType, Graph, TensorType
from qcomp.ir.ops import BatchNorm, Dense, Reshape, Softmax, Unary
from qcomp.ir.ops import Function as F
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import run_pass
from qcomp.quant.metrics import sqnr_db
from qcomp.quant.qparams import QParams, dequantize, quantize

RNG = np.random.default_rng(0)
DATA = RNG.standard_t(2, size=(300, 4)).astype(np.float32)


def network(*, batch_norm: bool = False, softmax: bool = False) -> Graph:
    """[batch norm] -> dense -> tanh -> dense -> reshape -> [softmax]."""
    graph = Graph("net")
    x = graph.add_input("x", TensorType(DType.F32, (1, 4)))
    if batch_norm:
        ones = [graph.add_constant(id, np.ones(4, np.float32)) for id in "abcd"]
        x = graph.add_op(BatchNorm(inputs=(x, *ones), output="bn", eps=1e-5))
    for layer in ("h", "s"):
        weight = graph.add_constant(f"{layer}.w", RNG.normal(size=(4, 4)).astype(np.float32))
        bias = graph.add_constant(f"{layer}.b", np.zeros(4, np.float32))
        x = graph.add_op(Dense(inputs=(x, weight, bias), output=layer))
        if layer == "h":
            x = graph.add_op(Unary(inputs=(x,), output="t", function=F.TANH))
    x = graph.add_op(Reshape(inputs=(x,), output="r", shape=(1, 1, 4)))
    if softmax:
        x = graph.add_op(Softmax(inputs=(x,), output="p", axis=2))
    graph.outputs["y"] = x
    return graph


def test_overrides_choose_the_estimator_the_bits_and_the_interval_of_a_tensor() -> None:
    found = collect(network(), DATA)
    config = QuantizationConfig(
        range="mse",
        activation_bits=8,
        overrides={
            "dense": {"range": "minmax"},
            "x": {"activation_bits": 16},
            "t": {"range": (-0.5, 0.25)},
            "r": {"symmetric_activations": True},
        },
    )
    ranges = found.ranges(config)
    assert list(ranges) == list(found.mnemonics)
    assert ranges["t"] == (-0.5, 0.25)
    for id in ("h", "s"):
        assert ranges[id] == found.range(id, "minmax")
    assert ranges["x"] == found.range("x", "mse", bits=16, symmetric=True)
    assert ranges["x"] != found.range("x", "mse")
    assert ranges["r"] == found.range("r", "mse", symmetric=True)


def test_a_range_is_found_once() -> None:
    found = collect(network(), DATA)
    assert found.range("h", "mse") is found.range("h", "mse")


def test_estimators_without_their_statistics_are_refused_with_what_there_is() -> None:
    measured, implied = collect(network(), DATA), ranges_from_batch_norm(network(batch_norm=True))
    with pytest.raises(CalibrationError, match="'batchnorm': @net has no batch-norm statistics"):
        measured.range("h", "batchnorm")
    with pytest.raises(CalibrationError, match="range='mse' needs calibration data"):
        implied.range("h", "mse")
    with pytest.raises(CalibrationError, match="'median': expected one of mse, minmax"):
        measured.range("h", "median")
    with pytest.raises(CalibrationError, match="%none is no f32 activation"):
        measured.range("none", "mse")


def test_batch_norm_statistics_serve_beside_data_with_the_inputs_as_measured() -> None:
    graph = network(batch_norm=True)
    found = collect(graph, DATA)
    extremes = found.range("x", "minmax")
    assert found.range("x", "batchnorm") == pytest.approx(extremes)
    alone = ranges_from_batch_norm(graph, {"x": extremes})
    assert found.ranges(QuantizationConfig(range="batchnorm", activation_bits=8)) == alone.implied


def test_the_logits_are_what_a_softmax_reads_or_outputs_of_two_axes() -> None:
    assert logits(network(softmax=True)) == {"r", "s"}
    assert logits(network()) == set()
    plain = network()
    plain.outputs["y"] = "s"
    assert logits(plain) == {"s"}
    assert collect(plain, DATA).distributions["s"].rows is not None


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_measured_range_of_16_bits_has_room_for_what_was_not_seen(symmetric: bool) -> None:
    found = collect(network(), DATA)
    low, high = found.range("x", "minmax", symmetric=symmetric)
    wide = found.range("x", "minmax", bits=16, symmetric=symmetric)
    assert wide == (HEADROOM * low, HEADROOM * high)


@pytest.mark.parametrize(("beyond", "least"), [(1.0, 75.0), (1.45, 75.0)])
def test_at_16_bits_inputs_beyond_the_calibrated_ones_are_not_saturated(
    beyond: float, least: float
) -> None:
    """Without room, values of 1.45 times what was seen would leave 10 dB."""
    graph, data = network(), RNG.uniform(-1, 1, (300, 4)).astype(np.float32)
    config = QuantizationConfig(range="minmax", activation_bits=16)
    annotated, _ = run_pass(graph, AnnotateRanges(collect(graph, data).ranges(config)))
    q = annotated.tensor("x").range
    assert q is not None
    qparams = QParams.from_range(*q, qmin=-32768, qmax=32767, symmetric=True)
    x = data * np.float32(beyond)
    assert sqnr_db(x, dequantize(quantize(x, qparams), qparams)) > least
