"""The numbers of attention are as near to what they stand for as docs/arithmetic.md says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.quant.attention import (
    exponential_table,
    exponentials,
    largest_weight,
    result_constants,
    score_constants,
    sixteen_bits,
)

STEPS = st.floats(1e-7, 0.5)


@given(STEPS, st.sampled_from([8, 15]), st.sampled_from([1, 7, 256, 300, 4096, 16384]))
def test_a_weight_is_near_its_exponential(step: float, bits: int, keys: int) -> None:
    most, octaves = largest_weight(keys, bits), 2.0**-5 if bits == 8 else 2.0**-9
    constants = score_constants(step, bits)
    distance = np.unique(np.geomspace(1, min(14 / step, 2**30 - 1), 999).astype(np.int64))
    distance = np.concatenate([[0], distance])
    table = exponential_table(keys, bits)
    found = exponentials(distance, constants.shift, constants.multiplier, table, bits)
    exact = -distance * step / math.log(2)
    assert most - 1 <= found[0] <= most
    assert (found <= most * 2.0 ** (exact + octaves) + 1).all()
    assert (found >= most * 2.0 ** (exact - octaves) - 1).all()


@given(STEPS, st.sampled_from([8, 15]))
def test_the_largest_difference_has_no_weight(step: float, bits: int) -> None:
    constants = score_constants(step, bits)
    far = np.array([2**30])
    table = exponential_table(100, bits)
    assert exponentials(far, constants.shift, constants.multiplier, table, bits) == 0


@pytest.mark.parametrize("bits", [8, 15])
def test_weights_add_up_to_what_sums_hold(bits: int) -> None:
    for keys in (1, 255, 256, 257, 1000, 16384):
        most = largest_weight(keys, bits)
        assert 2**8 - 1 <= most < 2**15
        assert bits == 8 or keys * most <= 2**23


@given(st.integers(1, 2**31 - 1))
def test_sixteen_bits(value: int) -> None:
    mantissa, lost = (int(x) for x in sixteen_bits(np.array(value)))
    assert 2**15 <= mantissa < 2**16
    assert abs(mantissa * 2.0**lost - value) <= 2.0 ** max(lost - 1, -1)


@given(
    st.floats(1e-3, 1e3),
    st.sampled_from([8, 16]),
    st.integers(2, 2**15),
    st.integers(2**15, 2**16 - 1),
)
def test_the_reciprocal_of_a_row(ratio: float, bits: int, largest_v: int, mantissa: int) -> None:
    found = result_constants(ratio, 1.0, largest_v=largest_v, bits=bits)
    limit = 2**15 if bits == 8 else 2**13
    reciprocal = (found.numerator + mantissa // 2) // mantissa
    assert 1 <= found.shift <= 30
    assert reciprocal <= limit
    if found.shift < 30:
        exact = ratio * 2.0 ** (found.shift + found.down) / mantissa
        assert abs(min(reciprocal, limit - 1) / exact - 1) <= 2.0 ** (
            -13.9 if bits == 8 else -11.95
        )


def test_constants_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="step of 40 nats; expected less than 32"):
        score_constants(40.0, 15)
    with pytest.raises(ValueError, match=r"1e\+09 times as long as the result's; expected less"):
        result_constants(1e9, 1.0, largest_v=128, bits=8)
    with pytest.raises(ValueError, match=r"a score's step is 0\.0"):
        score_constants(0.0, 8)
