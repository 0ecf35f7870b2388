"""With arithmetic="tflite" no integer differs from what LiteRT's reference kernels give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from operator_cases import BOTH
from random_nets import RandomNet
from tflite_models import reference

from qcomp.calibration.evidence import Evidence
from qcomp.config import QuantizationConfig
from qcomp.frontends import import_model
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.quantizer import Quantizer
from qcomp.recipes.named import settled

TFLITE = settled(QuantizationConfig(arithmetic="tflite"), calibrated=False)
FEW, MANY = 1, 200
"""Sets of parameters of each operator and type."""

ONE_SCALE = ("CONCATENATION", "MAXIMUM", "MINIMUM", "PACK")
"""Operators whose operands have one scale."""


def net_of(name: str, dtype: Any, seed: int) -> RandomNet:
    net = RandomNet(dtype, rng=np.random.default_rng(seed), one_scale=name in ONE_SCALE)
    BOTH[name](net)
    return net


def lowered(model: bytes) -> Graph:
    imported = import_model(model)
    return Quantizer(imported.graph, imported.form, Evidence(None, (-1.0, 1.0))).integer(TFLITE)


def compare(name: str, dtype: Any, seed: int) -> None:
    """All results of one set of parameters, on one random input."""
    net = net_of(name, dtype, seed)
    graph, feeds = lowered(net.model), net.feeds()
    moved = 128 if dtype == np.uint8 else 0
    stored = np.int16 if dtype == np.int16 else np.int8
    given = {
        n: (f.astype(np.int32) - moved).astype(stored)
        for n, f in zip(graph.inputs, feeds, strict=True)
    }
    ours = evaluate(graph, given)
    for mine, theirs in zip(ours.values(), reference(net.model, *feeds), strict=True):
        assert_array_equal(mine.astype(np.int64) + moved, theirs)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
@pytest.mark.parametrize("name", BOTH)
def test_integers(name: str, dtype: Any, request: pytest.FixtureRequest) -> None:
    for seed in range(MANY if request.config.getoption("--slow") else FEW):
        compare(name, dtype, seed)
