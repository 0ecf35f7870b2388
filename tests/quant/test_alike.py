"""Channels are grouped by ranges that differ in kind, not by those that are spread."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from qcomp.quant.alike import distance, grouped

F64 = NDArray[np.float64]
RANDOM = np.random.default_rng(3)


def halves(values: F64) -> tuple[F64, F64]:
    """Magnitudes of the columns in every other row, and in those between."""
    return np.abs(values[0::2]).max(axis=0), np.abs(values[1::2]).max(axis=0)


def sizes(values: F64) -> list[int]:
    return [len(group) for group in grouped(*halves(values))]


@pytest.mark.parametrize("samples", [2, 8, 64])
@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_the_logits_of_a_classifier_are_one_group(samples: int, spread: float) -> None:
    gains = np.exp(spread * RANDOM.standard_normal(1000))
    logits = RANDOM.standard_normal((samples, 1000)) * gains
    assert sizes(logits) == [1000]
    assert sizes(np.maximum(logits, 0.0)) == [1000]


def test_boxes_are_told_apart_from_the_scores_of_eighty_classes() -> None:
    head = np.abs(RANDOM.standard_normal((64, 84)) * np.exp(0.7 * RANDOM.standard_normal(84)))
    head[:, :4] *= 640.0
    boxes, scores = grouped(*halves(head))
    assert list(boxes) == [0, 1, 2, 3]
    assert list(scores) == list(range(4, 84))


def test_two_quantities_that_alternate_are_two_groups() -> None:
    state = RANDOM.standard_normal((64, 6)) * np.tile([1.0, 90.0], 3)
    assert [list(g) for g in grouped(*halves(state))] == [[1, 3, 5], [0, 2, 4]]


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_groups_stay_under_noise(noise: float) -> None:
    values = RANDOM.standard_normal((32, 12))
    values[:, [1, 5, 7]] *= 50.0
    values *= np.exp(noise * RANDOM.standard_normal(12))
    loud, quiet = grouped(*halves(values))
    assert list(loud) == [1, 5, 7]
    assert len(quiet) == 9


def test_ranges_that_are_spread_evenly_over_decades_are_cut() -> None:
    values = RANDOM.standard_normal((64, 32)) * np.geomspace(0.5, 200.0, 32)
    assert 2 <= len(sizes(values)) <= 4


def test_a_difference_that_only_one_half_shows_is_chance() -> None:
    one, other = np.array([1.0, 1.0, 1e-3, 1e-3]), np.array([1.0, 1.0, 1.1, 0.9])
    assert distance(one, other) == 1.0
    assert distance(one, one) > 900.0


def test_channels_of_zeros_are_with_the_quietest() -> None:
    magnitudes = np.array([100.0, 0.0, 1.0, 90.0])
    assert [list(g) for g in grouped(magnitudes, magnitudes)] == [[0, 3], [1, 2]]
    zeros = np.zeros(3)
    assert [list(g) for g in grouped(zeros, zeros)] == [[0, 1, 2]]


def test_one_quiet_channel_of_hundreds_is_no_group() -> None:
    magnitudes = np.ones(256)
    magnitudes[17] = 1e-3
    assert len(grouped(magnitudes, magnitudes)) == 1
