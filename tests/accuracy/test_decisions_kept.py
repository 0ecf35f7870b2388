"""The share of a classifier's answers that stay under noise, expected without trying it."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.accuracy.decisions import expected_agreement, scores_of_classes
from qcomp.ir.parse import parse

RNG = np.random.default_rng(3)


def test_what_is_expected_of_two_scores_is_what_noise_does() -> None:
    scores = RNG.standard_normal((4000, 2))
    noisy = scores + np.sqrt(0.05) * RNG.standard_normal(scores.shape)
    kept = float(np.mean(noisy.argmax(1) == scores.argmax(1)))
    assert expected_agreement(scores, 0.05) == pytest.approx(kept, abs=0.01)


def test_many_classes_lose_at_most_what_is_expected() -> None:
    scores = RNG.standard_normal((2000, 100))
    noisy = scores + 0.03 * RNG.standard_normal(scores.shape)
    kept = float(np.mean(noisy.argmax(1) == scores.argmax(1)))
    expected = expected_agreement(scores, 0.03**2)
    assert kept - 0.03 < expected < kept + 0.01
    assert expected_agreement(scores, 1e-12) == pytest.approx(1.0, abs=1e-4)


def test_without_noise_all_stay_and_in_noise_alone_none_is_certain() -> None:
    scores = RNG.standard_normal((10, 5))
    assert expected_agreement(scores, 0.0) == 1.0
    assert 0.0 <= expected_agreement(scores, 1e6) < 0.1


@pytest.mark.parametrize(
    ("shape", "is_list"), [("1,10", True), ("1,1,1,10", True), ("1,2", False), ("1,3,10", False)]
)
def test_scores_of_classes_are_one_list_for_each_sample(shape: str, is_list: bool) -> None:
    graph = parse(
        f"graph @net(%x: f32[{shape}]) {{\n"
        f"  %a = unary(%x) {{function=sigmoid, alpha=1.0, beta=0.0}} : f32[{shape}]\n"
        "  return y=%a\n}"
    )
    assert scores_of_classes(graph) == ("y" if is_list else None)
