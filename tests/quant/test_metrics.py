"""Metrics of closeness, on values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcomp.quant.metrics import sqnr_db
from qcomp.quant.noise import Noise


def test_sqnr_is_ten_log_of_the_power_ratio() -> None:
    assert sqnr_db([10.0, 0.0], [9.0, 0.0]) == pytest.approx(20.0)
    assert sqnr_db([1.0, 2.0], [1.0, 2.0]) == math.inf
    assert sqnr_db([0.0, 0.0], [1.0, 0.0]) == -math.inf


def test_noise_adds_up_over_arrays_and_runs() -> None:
    one = Noise().plus([np.float32([3.0]), np.float32([4.0])], [np.int8([2]), np.float32([4.0])])
    assert one == Noise(25.0, 1.0)
    assert one + Noise(75.0, 0.0) == Noise(100.0, 1.0)
    assert (one + Noise(75.0, 0.0)).db == pytest.approx(20.0)
    assert Noise(25.0, math.inf).db == -math.inf


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"shapes \(1,\) and \(2,\) differ"):
        sqnr_db([1.0], [1.0, 2.0])
