"""Readings far from zero with a small spread keep their resolution, in Python as in C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from network_builder import Builder
from numpy.testing import assert_array_equal
from specified import Runs, quantized, sqnr_by_output

import qcomp

MEAN, STD = np.array([295.0, 1013.0, 50.0, 2048.0]), np.array([4.0, 8.0, 12.0, 30.0])


def network() -> tuple[Builder, str]:
    b = Builder(17)
    z = b("Div", b("Sub", "x", MEAN), STD)
    return b, b.dense(b("Relu", b.dense(z, 4, 16)), 16, 2)


def runs(count: int, seed: int) -> Runs:
    noise = np.clip(np.random.default_rng(seed).normal(size=(count, 1, 4)), -3, 3)
    return [{"x": (MEAN + STD * n).astype(np.float32)} for n in noise]


def test_an_input_is_standardised_outside_and_an_output_put_back() -> None:
    b, y = network()
    out = b("Add", b("Mul", y, [2.0, 5.0]), [300.0, 1000.0])
    model = b.model({"x": [1, 4]}, [y, out])
    graph = quantized(model, runs(64, 0))
    found = sqnr_by_output(model, graph, runs(16, 1))
    assert found[y] > 35.0
    b, y = network()
    out = b("Add", b("Mul", y, [2.0, 5.0]), [300.0, 1000.0])
    model = b.model({"x": [1, 4]}, [out])
    graph = quantized(model, runs(64, 0))
    assert set(graph.conversions) == {"x", out}
    assert sqnr_by_output(model, graph, runs(16, 1))[out] > 70.0


def test_a_saved_network_converts_as_the_one_that_was_compiled(tmp_path: Path) -> None:
    b, y = network()
    config = qcomp.QuantizationConfig(recipe="fast")
    model = b.model({"x": [1, 4]}, [y])
    net = qcomp.compile(model, calibration=[r["x"] for r in runs(16, 0)], config=config, name="n")
    assert net.sqnr_db_output is not None
    assert net.sqnr_db_output > 35.0
    x = np.concatenate([r["x"] for r in runs(8, 1)])
    again = qcomp.load(net.save(tmp_path))
    assert again.inputs == net.inputs
    assert_array_equal(again(x), net(x))
    assert_array_equal(net.specification(x), net(x))
