"""The accuracy of a network has a figure for each part, which is kept with its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import qcomp
from qcomp.accuracy.measure import measured_accuracy
from qcomp.accuracy.record import Accuracy, plain, read
from qcomp.ir.parse import parse

RANDOM = np.random.default_rng(5)
F32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def detector() -> onnx.ModelProto:
    """Four coordinates in pixels beside three scores, in one output."""
    weights = RANDOM.standard_normal((7, 8, 1, 1)).astype(np.float32) * 0.1
    weights[:4] *= 640.0
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    float_ = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", float_, [1, 8, 4, 4])],
        [helper.make_tensor_value_info("y", float_, [1, 7, 4, 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def data() -> F32:
    return RANDOM.standard_normal((20, 8, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def compiled(detector: onnx.ModelProto, data: F32) -> qcomp.CompiledNetwork:
    return qcomp.compile(detector, calibration=data, recipe="fast", name="detector")


def test_boxes_and_scores_have_a_figure_each(compiled: qcomp.CompiledNetwork) -> None:
    accuracy = compiled.accuracy
    assert accuracy is not None
    boxes, scores = accuracy.parts
    assert [str(p.part) for p in accuracy.parts] == ["y[:, 0:4, :, :]", "y[:, 4:7, :, :]"]
    assert boxes.sqnr_db is not None
    assert scores.sqnr_db is not None
    assert boxes.sqnr_db > 35.0
    assert scores.sqnr_db < 3.0, "a step is larger than all scores"
    assert accuracy.worst is scores
    assert boxes.high > 400.0
    assert scores.high < 2.0
    assert scores.integers <= 2 < boxes.integers
    assert accuracy.sqnr_db == compiled.sqnr_db_output
    assert str(scores).startswith(f"y[:, 4:7, :, :]: {scores.sqnr_db:.1f} dB, values ")


def test_the_accuracy_is_in_the_manifest_and_comes_back(
    compiled: qcomp.CompiledNetwork, tmp_path: Path
) -> None:
    compiled.save(tmp_path)
    path = tmp_path / "detector.manifest.json"
    manifest = json.loads(path.read_text())
    assert [p["part"]["channels"] for p in manifest["accuracy"]["parts"]] == [[[0, 4]], [[4, 7]]]
    assert qcomp.load(tmp_path).accuracy == compiled.accuracy
    assert qcomp.load(tmp_path).sqnr_db_output == compiled.sqnr_db_output


def test_the_ratio_is_that_of_signal_and_error_over_all_samples() -> None:
    graph = parse("graph @net(%x: f32[1,2]) {\n  return y=%x\n}")
    samples = [{"x": np.array([v], np.float32)} for v in ([3.0, 4.0], [0.0, 5.0])]
    off = measured_accuracy(graph, ["y"], lambda feed: {"y": feed["x"] + 0.5}, samples)
    assert off is not None
    assert off.sqnr_db == pytest.approx(10 * np.log10(50.0 / 1.0))
    assert (off.samples, off.parts[0].low, off.parts[0].high) == (2, 0.0, 5.0)
    assert off.parts[0].integers == 4


def test_what_can_not_be_compared_has_no_figure() -> None:
    graph = parse("graph @net(%x: f32[1,2]) {\n  return y=%x\n}")
    samples = [{"x": np.zeros((1, 2), np.float32)}]
    exact = measured_accuracy(graph, ["y"], lambda feed: {"y": feed["x"]}, samples)
    assert exact is not None
    assert (exact.sqnr_db, exact.worst) == (None, None)
    assert str(exact.parts[0]).startswith("y: nothing to compare")
    assert read(json.loads(json.dumps(plain(exact), allow_nan=False))) == exact
    assert measured_accuracy(graph, [], lambda feed: feed, samples) is None
    assert read(plain(None)) is None
    assert isinstance(exact, Accuracy)
