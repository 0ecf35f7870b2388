"""Mistakes in the calibration data of real networks are told by their kind, right data is not."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcomp.calibration.samples import samples_of
from qcomp.errors import CalibrationError
from qcomp.findings.find import of_data
from qcomp.frontends import import_model

pytestmark = pytest.mark.zoo

RANDOM = np.random.default_rng(2)
PIXELS = {"torch": (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))}


@pytest.fixture(scope="module", params=["resnet20_cifar10", "kws"])
def network(request: pytest.FixtureRequest, zoo: Path) -> Any:
    entry = runpy.run_path(str(zoo / "zoo.py"))["load"](request.param)
    return request.param, import_model(entry.model).graph, entry.data("calibration", 24)


def shuffled(x: np.ndarray) -> np.ndarray:
    """The places of each image in one other order; channels stay together."""
    last = x.shape[-1] < 4
    flat = x.reshape(len(x), -1, x.shape[-1]) if last else x.reshape(*x.shape[:2], -1)
    order = RANDOM.permutation(flat.shape[1 if last else 2])
    return (flat[:, order] if last else flat[:, :, order]).reshape(x.shape)


def told(graph: Any, data: Any) -> set[str]:
    return {str(finding.kind) for finding in of_data(graph, samples_of(graph, data))}


def test_the_right_data_is_not_told_of(network: Any) -> None:
    _, graph, (x, _) = network
    assert told(graph, x) == set()


def test_mistakes_are_told_by_their_kind(network: Any) -> None:
    name, graph, (x, _) = network
    assert told(graph, RANDOM.standard_normal(x.shape).astype(np.float32)) >= {"noise"}
    assert told(graph, shuffled(x)) & {"noise", "one-answer"}
    assert told(graph, x[:1]) == {"few-samples"}
    assert told(graph, np.repeat(x[:1], 24, axis=0)) == {"repeated"}
    if name == "kws":
        assert told(graph, x * 255) == {"one-answer"}
        assert told(graph, x / 255) == {"one-answer"}
        return
    mean, std = (v.reshape(1, 3, 1, 1) for v in PIXELS["torch"])
    pixels = (x * std + mean).astype(np.float32)
    assert "input-scale" in told(graph, 255 * pixels)
    assert "first-layer" in told(graph, pixels)
    assert told(graph, 2 * pixels - 1) == {"unlike-training"}
    assert "layout" in told(graph, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(x.shape))


def test_labels_and_nhwc_are_refused_with_the_cure(network: Any) -> None:
    name, graph, (x, y) = network
    with pytest.raises(CalibrationError, match="one number for each sample, as labels are"):
        told(graph, y)
    if name != "kws":
        with pytest.raises(CalibrationError, match=r"NHWC: transpose\(0, 3, 1, 2\)"):
            told(graph, x.transpose(0, 2, 3, 1))
