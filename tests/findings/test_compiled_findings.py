"""A compiled network has its findings, and so have its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import qcomp
from qcomp.findings.record import Kind

F32 = NDArray[np.float32]
RANDOM = np.random.default_rng(9)
FLOAT = onnx.TensorProto.FLOAT


def dense() -> onnx.ModelProto:
    """Boxes of some hundreds beside scores of one, from one layer."""
    weight = RANDOM.standard_normal((8, 6)).astype(np.float32)
    weight[:, :3] *= 300.0
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


DATA = RANDOM.standard_normal((32, 8)).astype(np.float32)


def test_findings_are_of_the_network_and_of_its_files(tmp_path: Path) -> None:
    net = qcomp.compile(dense(), calibration=DATA[:9], recipe="fast", name="dense")
    assert [f.kind for f in net.findings] == [Kind.INACCURATE, Kind.FEW_SAMPLES]
    inaccurate, few = net.findings
    assert inaccurate.where == "y[:, 3:6]"
    assert inaccurate.number < 20.0
    assert "16-bit activations give " in inaccurate.help
    assert float(inaccurate.help.split()[3]) > 30.0
    assert few.number == 9
    net.save(tmp_path)
    manifest = json.loads((tmp_path / "dense.manifest.json").read_text())
    assert [f["kind"] for f in manifest["findings"]] == ["inaccurate", "few-samples"]
    assert qcomp.load(tmp_path).findings == net.findings


def test_16_bits_leave_nothing_to_find() -> None:
    config = qcomp.QuantizationConfig(recipe="fast", activation_bits=16)
    net = qcomp.compile(dense(), calibration=DATA, config=config, strict=True, min_sqnr_db=30.0)
    assert net.findings == ()


def test_what_calibration_data_shows_of_itself_is_found() -> None:
    blank = qcomp.compile(dense(), calibration=np.zeros((20, 8), np.float32), recipe="fast")
    (constant,) = blank.findings
    assert (constant.kind, constant.where) == (Kind.CONSTANT, "x, y")
    labels = np.eye(8, dtype=np.float32)[RANDOM.integers(0, 8, 20)]
    labelled = qcomp.compile(dense(), calibration=labels, recipe="fast")
    assert labelled.findings[0].kind is Kind.LABELS


def test_the_ratio_is_of_samples_that_were_held_back_where_there_are_any(tmp_path: Path) -> None:
    model = dense()
    net = qcomp.compile(model, calibration=DATA, samples=20, recipe="fast", name="dense")
    assert net.accuracy is not None
    assert (net.accuracy.samples, net.accuracy.held_back) == (8, True)
    expected = net.evaluate(DATA[20:28], model=model)
    assert [p.sqnr_db for p in net.accuracy.parts] == [o.sqnr_db for o in expected.outputs]
    assert qcomp.load(net.save(tmp_path)).accuracy == net.accuracy
    all_of_it = qcomp.compile(model, calibration=DATA, recipe="fast").accuracy
    assert all_of_it is not None
    assert not all_of_it.held_back
