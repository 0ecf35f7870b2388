"""Without any data, and with one scale for each weight: a network whose naive result is chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qcomp
from qcomp.execute.session import FloatSession
from qcomp.frontends import import_model
from qcomp.quant.metrics import sqnr_db

pytestmark = pytest.mark.zoo


@pytest.mark.slow
def test_equalization_and_correction_from_batch_norm_make_mobilenet_usable(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("PIL", reason="the zoo's loader reads images with pillow")
    monkeypatch.syspath_prepend(str(zoo))
    from zoo import load

    network = load("mobilenetv1_025_bn")
    images, _ = network.data("evaluation", 20)
    graph = import_model(network.model).graph
    session, (name,) = FloatSession(graph), graph.inputs
    expected = np.concatenate([*(r for x in images for r in session.run({name: x[None]}).values())])

    def quality(**choices: object) -> float:
        config = qcomp.QuantizationConfig(per_channel=False, **choices)
        net = qcomp.compile(network.model, config=config)
        return sqnr_db(expected, np.concatenate([net(x[None]) for x in images]))

    naive = quality(equalize=False, bias_correction=None)
    equalized = quality(bias_correction=None)
    corrected = quality()
    assert naive < 0.0
    assert equalized > naive + 4.0
    assert corrected > max(equalized + 8.0, 15.0)
