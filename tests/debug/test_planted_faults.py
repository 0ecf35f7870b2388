"""Each of seven faults, planted in a small network of images, is named as the first cause."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from planted_faults import RIGHT, device_faults, planted_in_choices, unequal_layer

import qcomp
from qcomp.execute.session import FloatSession
from qcomp.frontends import import_model

F32 = NDArray[np.float32]
CLASSES, SIZE, CHANNELS = 6, 12, 16


@cache
def model() -> onnx.ModelProto:
    """3x3, depthwise 3x3, 1x1, 3x3, mean and dense; channels of the depthwise layer are unequal.

    Classes have about as many images each, as the mean score is taken from each.
    """
    random = np.random.default_rng(3)
    spread = np.logspace(-1.5, 1.5, CHANNELS, dtype=np.float32)
    random.shuffle(spread)
    shapes = {"a": (CHANNELS, 3, 3, 3), "b": (CHANNELS, 1, 3, 3), "c": (8, CHANNELS, 1, 1)}
    arrays = {
        name: random.normal(size=shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        for name, shape in {**shapes, "d": (CLASSES * 2, 8, 3, 3)}.items()
    }
    arrays["b"] = arrays["b"] * spread[:, None, None, None]
    arrays["c"] = arrays["c"] / spread[None, :, None, None]
    arrays["e"] = random.normal(size=(CLASSES, CLASSES * 2)).astype(np.float32)
    made = _built(arrays, np.zeros(CLASSES, np.float32))
    scores = _scores(made, images(64))
    return _built(arrays, -scores.mean(axis=0))


def _built(arrays: dict[str, F32], bias: F32) -> onnx.ModelProto:
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["a.y"], **pads),
        helper.make_node("Relu", ["a.y"], ["first"]),
        helper.make_node("Conv", ["first", "b"], ["b.y"], group=CHANNELS, **pads),
        helper.make_node("Relu", ["b.y"], ["depthwise"]),
        helper.make_node("Conv", ["depthwise", "c"], ["project"]),
        helper.make_node("Conv", ["project", "d"], ["d.y"], **pads),
        helper.make_node("Relu", ["d.y"], ["wide"]),
        helper.make_node("GlobalAveragePool", ["wide"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "e", "bias"], ["scores"], transB=1),
    ]
    shape = [1, 3, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(a, name) for name, a in {**arrays, "bias": bias}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def images(count: int, seed: int = 0) -> list[F32]:
    """Colours that vary from place to place, -1 to 1; more red than blue."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = random.uniform(-1, 1, (1, 3, 3, 3)) + np.array([0.5, 0, -0.5])[:, None, None]
        fine = np.kron(coarse, np.ones((1, 1, SIZE // 3, SIZE // 3)))
        noisy = fine + random.normal(0, 0.1, fine.shape)
        found.append(np.clip(noisy, -1, 1).astype(np.float32))
    return found


def _scores(made: onnx.ModelProto, data: Sequence[F32]) -> F32:
    session = FloatSession(import_model(made).graph)
    return np.concatenate([session.run({"image": x})["scores"] for x in data])


@cache
def labelled() -> tuple[list[F32], list[int]]:
    """Labels are what the float network says."""
    data = images(96, seed=1)
    return data, _scores(model(), data).argmax(axis=1).tolist()


def test_the_classes_of_the_network_are_told_apart() -> None:
    assert np.bincount(labelled()[1], minlength=CLASSES).max() < 60


@pytest.mark.parametrize("place", range(3))
def test_a_fault_of_a_device_is_named_by_compare(place: int) -> None:
    rows = _of_device()
    assert rows[place].named, rows[place]


@cache
def _of_device() -> list[Any]:
    net = qcomp.compile(model(), calibration=images(16), config=RIGHT, name="colours")
    run = net.quantized({"image": images(1, seed=5)[0]})
    return list(device_faults(net, [run]))


@pytest.mark.few(1)
@pytest.mark.parametrize("place", range(4))
def test_a_fault_of_choices_or_data_is_named_by_bisect(place: int) -> None:
    rows = _of_choices()
    assert rows[place].named, rows[place]


@cache
def _of_choices() -> list[Any]:
    return list(planted_in_choices(model(), images(32), labelled(), "project.conv"))


def test_a_layer_that_is_not_equalized_is_named_by_diff() -> None:
    row = unequal_layer(model(), images(16))
    assert row.named, row
