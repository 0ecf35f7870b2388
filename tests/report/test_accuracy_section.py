"""Ratios of outputs, by step and by length, in a report and on a notebook's card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pages import Read

import qcomp
from qcomp.accuracy.record import StepsAccuracy

STEPS = (StepsAccuracy(1, 8, 40.25), StepsAccuracy(9, 64, 31.5))


def test_parts_steps_and_lengths_have_a_row_each(digits: Any, tmp_path: Path) -> None:
    of_all = replace(digits.accuracy, steps=STEPS)
    shorter = replace(
        digits, accuracy=replace(of_all, parts=(replace(of_all.parts[0], sqnr_db=9.0),))
    )
    artifact = replace(digits.artifact, lengths=(32, 16, 8))
    plans = (shorter, replace(digits, accuracy=None))
    net = replace(digits, accuracy=of_all, artifact=artifact, shorter=plans)
    found = Read(net.report(tmp_path / "page.html").read_text(encoding="utf-8"))
    shown = " ".join(found.shown)
    assert "Of the steps of sequences" in shown
    assert "1 to 8 40.2 9 to 64 31.5" in shown
    assert "16: logits 9.0" in shown
    assert f"32: logits {of_all.parts[0].sqnr_db:.1f}" in shown
    assert "8: logits" not in shown
    card = net._repr_html_()
    assert "1 to 8: 40.2 dB, 9 to 64: 31.5 dB" in card
    assert "16: 9.0 dB, 8: not measured" in card


def test_a_network_of_one_length_has_its_outputs_only(page: Path) -> None:
    shown = " ".join(Read(page.read_text(encoding="utf-8")).shown)
    assert "Ratio of each output to that of the float network, on" in shown
    assert "Of the steps" not in shown
    assert "Of the lengths" not in shown


def test_a_network_with_states_is_measured_too(tmp_path: Path) -> None:
    data = [{"x": x, "h": x[:, :4] / 2} for x in np.random.default_rng(0).normal(size=(16, 1, 6))]
    data = [{name: a.astype(np.float32) for name, a in one.items()} for one in data]
    config = qcomp.QuantizationConfig(states={"h": "y"})
    net = qcomp.compile(state_model(), calibration=data, config=config, recipe="fast", name="kept")
    options = {"model": state_model(), "calibration": data}
    page = net.report(tmp_path / "page.html", **options)
    nodes = Read(page.read_text(encoding="utf-8")).facts["nodes"]
    assert all(node["error"]["cumulative"]["db"] > 20 for node in nodes)


def state_model() -> onnx.ModelProto:
    """A dense layer of what it reads and of what it gave before."""
    weights = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32) / 3
    nodes = [
        helper.make_node("Concat", ["x", "h"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "w"], ["sums"]),
        helper.make_node("Tanh", ["sums"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "kept",
        [info("x", TensorProto.FLOAT, [1, 6]), info("h", TensorProto.FLOAT, [1, 4])],
        [info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
