"""Each operator, of floats and of integers, gives what LiteRT's reference kernels give."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_cases import EXACT, LACKING, REFUSED, operator_of
from numpy.testing import assert_allclose
from operator_cases import BOTH, FLOATS, Case, Net
from tflite_models import reference

from qcomp.calibration.evidence import Evidence
from qcomp.config import QuantizationConfig
from qcomp.frontends import import_model
from qcomp.frontends.tflite.rules import RULES
from qcomp.ir.evaluate import evaluate
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.quantizer import Quantizer
from qcomp.recipes.named import settled

ALL: Mapping[str, Case] = {**BOTH, **FLOATS}
LARGEST_STEP = 1
"""By which results may differ: TensorFlow Lite rounds twice, and its factors once more."""

EXEMPT: Mapping[tuple[str, str], str] = {
    ("PRELU", "int16"): "LiteRT reads slopes of 16 bits as some of 8",
    ("TANH", "int16"): "LiteRT's own table is two steps of 2^-15 from the function",
} | {
    (name, "int16"): "LiteRT has no such kernel"
    for name in ("DEPTH_TO_SPACE", "HARD_SWISH", "RELU_N1_TO_1", "SPACE_TO_DEPTH")
}


def net_of(case: Case, dtype: Any = np.float32) -> Net:
    net = Net(dtype)
    case(net)
    return net


@pytest.mark.parametrize("name", [n for n in ALL if n != "QUANTIZE"])
def test_floats(name: str) -> None:
    net = net_of(ALL[name])
    imported = import_model(net.model)
    assert imported.form is Form.FLOAT
    feeds = net.feeds()
    if name == "CAST":
        feeds = [net.rng.integers(0, 256, f.shape).astype(np.uint8) for f in feeds]
    given = {n: f.astype(np.float32) for n, f in zip(imported.graph.inputs, feeds, strict=True)}
    ours = evaluate(imported.graph, given)
    for mine, theirs in zip(ours.values(), reference(net.model, *feeds), strict=True):
        assert mine.shape == theirs.shape
        assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
@pytest.mark.parametrize("name", BOTH)
def test_integers(name: str, dtype: Any) -> None:
    if reason := EXEMPT.get((name, np.dtype(dtype).name)):
        pytest.skip(reason)
    net = net_of(BOTH[name], dtype)
    graph = integers_of(net.model)
    feeds = net.feeds()
    moved = 128 if dtype == np.uint8 else 0
    stored = np.int16 if dtype == np.int16 else np.int8
    given = {
        n: (f.astype(np.int32) - moved).astype(stored)
        for n, f in zip(graph.inputs, feeds, strict=True)
    }
    ours = evaluate(graph, given)
    for mine, reference_result in zip(ours.values(), reference(net.model, *feeds), strict=True):
        theirs = reference_result.astype(np.int64) - moved
        assert mine.shape == theirs.shape
        assert np.abs(mine.astype(np.int64) - theirs).max() <= LARGEST_STEP
        assert np.ptp(theirs) > 20


def integers_of(model: bytes) -> Graph:
    imported = import_model(model)
    assert imported.form is Form.QDQ
    quantizer = Quantizer(imported.graph, imported.form, Evidence(None, (-1.0, 1.0)))
    return quantizer.integer(settled(QuantizationConfig(), calibrated=False))


def operators(cases: Iterable[str]) -> set[str]:
    return set(map(operator_of, cases))


def test_every_rule_has_a_case() -> None:
    assert operators(ALL) == set(RULES)


def test_the_page_lists_what_is_tested() -> None:
    """To write it anew: QCOMP_WRITE_DOCS=1."""
    rows = [
        f"| {name} | {told('float', name)} | {told('int8', name)} | {told('uint8', name)} "
        f"| {told('int16', name)} |"
        for name in sorted(RULES)
    ]
    before, after = PAGE.read_text(encoding="utf-8").split(HEAD)
    page = "\n".join([before + HEAD, *rows, ""])
    if os.environ.get("QCOMP_WRITE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    assert page == before + HEAD + after


PAGE = Path(__file__).parents[3] / "docs" / "tflite-operators.md"
HEAD = "| operator | floats | int8 | uint8 | int16 |\n|---|---|---|---|---|"


def told(kind: str, name: str) -> str:
    if kind == "float":
        return "no" if name == "QUANTIZE" else "yes"
    near = name in operators(BOTH) and (name, kind) not in EXEMPT
    exact = name in operators(EXACT) and (name, kind) not in {**LACKING, **REFUSED}
    known = [word for word, holds in (("yes", near), ("bits", exact)) if holds]
    return ", ".join(known) or ("weights" if name == "DEQUANTIZE" else "not tried")
