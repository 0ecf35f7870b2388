"""When a choice is good enough that nothing more is tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.ir.form import Form
from qcomp.ir.parse import parse
from qcomp.quantizer import Quantizer
from qcomp.recipes.choice import Choice
from qcomp.recipes.judge import Judge
from qcomp.recipes.named import settled

SCORES = parse(
    "graph @net(%x: f32[1,8]) {\n"
    "  %a = unary(%x) {function=sigmoid, alpha=1.0, beta=0.0} : f32[1,8]\n  return y=%a\n}"
)


@pytest.mark.parametrize(
    ("decibels", "agreement", "good"), [(36.0, 0.99, True), (36.0, 0.96, False), (25.0, 1.0, False)]
)
def test_parts_and_classes_must_both_stay(decibels: float, agreement: float, good: bool) -> None:
    trial: Any = SimpleNamespace(now=SimpleNamespace(least_db=decibels), agreement=agreement)
    choice = Choice(QuantizationConfig(), trial)
    assert choice.is_good_without("16 bits") is good
    assert len(choice.log.events) == good


def test_classes_that_lie_close_are_expected_to_change() -> None:
    rng = np.random.default_rng(5)
    kept = []
    for spread in (0.02, 2.0):
        x = spread * rng.standard_normal((32, 8)).astype(np.float32)
        data = samples_of(SCORES, x)
        judge = Judge(Quantizer(SCORES, Form.FLOAT, Evidence(data, (-1.0, 1.0))))
        x4 = {"x": np.full((1, 8), 4.0, np.float32)}  # one sample takes most of the range
        trial = judge.trial(settled(QuantizationConfig(), calibrated=True), [*data.first(32), x4])
        kept.append(trial.agreement)
    assert kept[0] < 0.9 < 0.95 < kept[1]
