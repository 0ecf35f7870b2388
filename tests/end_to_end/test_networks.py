"""Networks as users have them, from model to library, in every configuration."""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from compiled_once import CompiledOnce
from guard_check import guard_check
from network_builder import Builder, Network
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from small_networks import NETWORKS

import qcomp
from qcomp.quant.metrics import sqnr_db

Array = NDArray[Any]

FAST = qcomp.QuantizationConfig(recipe="fast")  # for tests that don't ask what `auto` would choose

# Each network meets one of these, and each of these several networks.
CONFIGS = (
    replace(FAST, per_channel=False),
    replace(FAST, symmetric_activations=True, range="minmax"),
    replace(FAST, equalize=False, snap_scales=False, bias_correction=None),
    replace(FAST, per_channel=False, symmetric_activations=True, range="ema"),
    replace(FAST, per_channel=False, equalize=False, range="percentile"),
)


def float_answers(model: onnx.ModelProto, x: dict[str, Array], batch: int) -> dict[str, Array]:
    """Of onnxruntime, `batch` samples at a time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    count = len(next(iter(x.values())))
    runs = [
        session.run(None, {name: array[i : i + batch] for name, array in x.items()})
        for i in range(0, count, batch)
    ]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate(parts) for name, *parts in zip(names, *runs, strict=True)}


def assert_exact(net: qcomp.CompiledNetwork, x: dict[str, Array]) -> dict[str, Array]:
    """The library gives the bits of the specification; its answers."""
    answers: dict[str, Array] = net(x)
    expected = net.specification(x)
    for name, answer in answers.items():
        assert_array_equal(answer, expected[name], err_msg=name)
    return answers


def uses_batch_norm(network: Network) -> bool:
    return any(node.op_type == "BatchNormalization" for node in network.build().graph.node)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_library_is_exact_and_near_the_float_network(
    name: str, compiled_once: CompiledOnce
) -> None:
    assert_exact_and_near(qcomp.load(compiled_once(name)), NETWORKS[name])


SEARCHED = ("resnet", "temporal")


@pytest.mark.parametrize(
    "name", [n if n in SEARCHED else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS]
)
def test_what_a_search_chose_is_exact_and_near_the_float_network(name: str) -> None:
    network = NETWORKS[name]
    assert_exact_and_near(
        qcomp.compile(network.build(), calibration=network.samples(12), recipe="auto"), network
    )


def assert_exact_and_near(net: qcomp.CompiledNetwork, network: Network) -> None:
    x = network.samples(6, seed=1)
    answers = assert_exact(net, x)
    expected = float_answers(network.build(), x, network.shape[0])
    assert list(answers) == list(expected)
    quantized = [o for o in expected if expected[o].dtype == np.float32]
    for output, least in zip(quantized, network.least_sqnr_db, strict=True):
        assert answers[output].shape == expected[output].shape
        assert sqnr_db(expected[output], answers[output]) > least
    for output in set(expected) - set(quantized):
        assert np.mean(expected[output] == answers[output]) > 0.95


@pytest.mark.parametrize("i", range(len(NETWORKS)), ids=list(NETWORKS))
def test_other_configurations_are_exact_on_the_baseline_of_the_machine(i: int) -> None:
    network = list(NETWORKS.values())[i]
    target = "aarch64" if platform.machine() == "aarch64" else "sse4.1"
    net = qcomp.compile(
        network.build(),
        target,
        calibration=network.samples(4),
        config=CONFIGS[i % len(CONFIGS)],
    )
    assert_exact(net, network.samples(2, seed=1))


@pytest.mark.parametrize("name", [n for n in NETWORKS if uses_batch_norm(NETWORKS[n])])
def test_batch_norm_statistics_can_stand_in_for_data(name: str) -> None:
    network = NETWORKS[name]
    model, x = network.build(), network.samples(4, seed=1)
    config = qcomp.QuantizationConfig(input_range=(-4.0, 4.0))
    answers = assert_exact(qcomp.compile(model, config=config), x)
    expected = float_answers(model, x, network.shape[0])
    for output in expected:
        if expected[output].dtype == np.float32:
            assert sqnr_db(expected[output], answers[output]) > 10


@pytest.mark.parametrize("name", ["detector", "transformer", "arithmetic", "siamese", "pools"])
def test_a_saved_library_stays_within_its_buffers(
    name: str, compiled_once: CompiledOnce, cc: str
) -> None:
    assert guard_check(compiled_once(name)).clean


def test_a_fully_convolutional_network_is_bound_to_the_size_in_use() -> None:
    b = Builder(13)
    y = b.block("x", (8, 3, 3, 3), strides=[2, 2])
    y = b("Resize", y, "", [1.0, 1.0, 2.0, 2.0], mode="linear")
    model = b.model({"x": ["N", 3, "H", "W"]}, [b.conv(y, (2, 8, 1, 1))])
    x = {"x": np.random.default_rng(0).normal(size=(4, 3, 10, 14)).astype(np.float32)}
    net = qcomp.compile(model, calibration=x, bind={"H": 10, "W": 14}, config=FAST)
    assert net.inputs[0].shape == (1, 3, 10, 14)
    (answer,) = assert_exact(net, x).values()
    (expected,) = float_answers(model, x, 1).values()
    assert sqnr_db(expected, answer) > 30
    batches = qcomp.compile(model, calibration=x, bind={"N": 2, "H": 10, "W": 14}, config=FAST)
    assert batches.inputs[0].shape == (2, 3, 10, 14)
    assert_array_equal(batches(x["x"]), answer)


def test_an_intermediate_value_can_be_an_output_too() -> None:
    b = Builder(13)
    y = b.block("x", (8, 3, 3, 3))
    z = b.block(y, (8, 8, 3, 3))
    model = b.model({"x": [2, 3, 8, 9]}, [z, b("Add", y, z), y])
    x = {"x": np.random.default_rng(0).normal(size=(4, 3, 8, 9)).astype(np.float32)}
    answers = assert_exact(qcomp.compile(model, calibration=x, config=FAST), x)
    for output, expected in float_answers(model, x, 2).items():
        assert sqnr_db(expected, answers[output]) > 30
