"""Metrics of closeness, on values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcomp.quant.metrics import cosine, max_abs_error, sqnr_db, top1


def test_sqnr_is_ten_log_of_the_power_ratio() -> None:
    assert sqnr_db([10.0, 0.0], [9.0, 0.0]) == pytest.approx(20.0)
    assert sqnr_db([1.0, 2.0], [1.0, 2.0]) == math.inf
    assert sqnr_db([0.0, 0.0], [1.0, 0.0]) == -math.inf


def test_cosine_sees_direction_and_not_length() -> None:
    assert cosine([1.0, 2.0], [2.0, 4.0]) == pytest.approx(1.0)
    assert cosine([1.0, 0.0], [0.0, 1.0]) == 0.0
    assert cosine([1.0, 1.0], [-1.0, -1.0]) == pytest.approx(-1.0)
    assert cosine([0.0], [0.0]) == 1.0
    assert cosine([0.0], [1.0]) == 0.0


def test_max_abs_error_is_the_worst_element() -> None:
    assert max_abs_error(np.float32([1.0, -5.0]), np.float32([1.5, -4.0])) == 1.0
    assert max_abs_error([], []) == 0.0


def test_top1_counts_rows_whose_largest_logit_is_the_label() -> None:
    logits = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5], [0.0, 1.0]])
    assert top1(logits, [1, 0, 0, 0]) == 0.75


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"shapes \(1,\) and \(2,\) differ"):
        sqnr_db([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="expected logits"):
        top1(np.zeros((2, 3)), [1])
