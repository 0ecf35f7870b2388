"""A spectrum's logarithmic power keeps its accuracy over orders of magnitude."""

from __future__ import annotations

import numpy as np
from network_builder import Builder
from numpy.testing import assert_array_equal
from specified import Runs

import qcomp


def runs(count: int, seed: int) -> Runs:
    """Tones and noise whose loudness ranges over 50 dB."""
    random = np.random.default_rng(seed)
    loud = 10 ** random.uniform(-2.5, 0, (count, 1, 1, 1))
    x = random.normal(size=(count, 1, 1, 512)) * loud
    smooth = sum(np.roll(x, k, -1) for k in range(5)) / 5
    return [{"x": run.astype(np.float32)} for run in smooth]


def test_the_power_of_a_signal_is_not_rounded_before_its_logarithm() -> None:
    b = Builder(17)
    t, k = np.arange(64) / 64, np.arange(33)[:, None]
    window = np.hanning(64)
    parts = [
        b("Conv", "x", (f(2 * np.pi * k * t) * window)[:, None], strides=[32])
        for f in (np.cos, np.sin)
    ]
    squares = [b("Mul", p, p) for p in parts]
    log = b("Log", b("Max", b("Add", *squares), 1e-12))
    y = b("Relu", b("Conv", log, b.random.normal(size=(8, 33, 3)) * 0.1, pads=[1, 1]))
    model = b.model({"x": [1, 1, 512]}, [y])
    flat = [{"x": run["x"][0]} for run in (*runs(16, 0), *runs(4, 1))]
    config = qcomp.QuantizationConfig(recipe="fast")
    net = qcomp.compile(model, calibration=[r["x"] for r in flat[:16]], config=config)
    assert net.sqnr_db_output is not None
    assert net.sqnr_db_output > 25.0
    for run in flat[16:]:
        assert_array_equal(net.specification(run["x"][None]), net(run["x"][None]))
