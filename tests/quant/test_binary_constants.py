"""Constants of elementwise ops: no overflow at the extremes, and as near as promised."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qcomp.quant.binary_constants import (
    AddConstants,
    add_constants,
    add_wide_constants,
    average_multipliers,
    div_constants,
    mul_constants,
    prelu_constants,
    sum_constants,
)

SCALES = st.floats(2.0**-12, 2.0**6, width=32)
NEAR = st.floats(0.25, 4.0, width=32)


def term(centered: int, multiplier: int) -> int:
    return ((centered << 7) * multiplier + 2**14) >> 15


@given(SCALES, SCALES, SCALES, st.booleans())
@example(1.0, 1.0, 1.0, False)
@example(1.0, 1.0, 2.0**-6, False)
def test_no_sum_of_an_addition_leaves_16_bits(
    sa: float, sb: float, sy: float, subtract: bool
) -> None:
    constants = add_constants(sa, sb, sy, subtract=subtract)
    if constants is None:
        return
    f = constants.fraction_bits
    assert f >= 2
    assert max(abs(constants.a_multiplier), abs(constants.b_multiplier)) < 2**15
    for a in (-255, 255):
        for b in (-255, 255):
            total = term(a, constants.a_multiplier) + term(b, constants.b_multiplier)
            assert total >= -(2**15)
            assert total + 2 ** (f - 1) < 2**15


@given(NEAR, NEAR, NEAR, st.booleans())
def test_scales_of_one_magnitude_always_add_in_16_bits(
    sa: float, sb: float, sy: float, subtract: bool
) -> None:
    constants = add_constants(sa, sb, sy, subtract=subtract)
    assert constants is not None
    unit = Fraction(2) ** (constants.fraction_bits + 8) / Fraction(sy)
    b_multiplier = -constants.b_multiplier if subtract else constants.b_multiplier
    assert abs(constants.a_multiplier / (Fraction(sa) * unit) - 1) < Fraction(1, 2**8)
    assert abs(b_multiplier / (Fraction(sb) * unit) - 1) < Fraction(1, 2**8)


@given(SCALES, SCALES, SCALES, st.booleans())
@example(1.0, 2.0**-10 * 1.02, 1.0, False)
@example(1.0, 2.0**-7 * 1.003, 1.0, False)
def test_an_addition_in_16_bits_has_multipliers_within_a_256th(
    sa: float, sb: float, sy: float, subtract: bool
) -> None:
    """Scales further apart are added in 32 bits, whatever their distance."""
    constants = add_constants(sa, sb, sy, subtract=subtract)
    if constants is not None:
        unit = Fraction(2) ** (constants.fraction_bits + 8) / Fraction(sy)
        for s, m in ((sa, constants.a_multiplier), (sb, abs(constants.b_multiplier))):
            assert abs(m / (Fraction(s) * unit) - 1) < Fraction(1, 2**8)


@given(NEAR, NEAR, NEAR)
def test_one_more_fraction_bit_would_overflow(sa: float, sb: float, sy: float) -> None:
    constants = add_constants(sa, sb, sy, subtract=False)
    assert constants is not None
    f = constants.fraction_bits + 1
    ma, mb = (round(s / sy * 2.0 ** (f + 8)) for s in (sa, sb))
    assert max(ma, mb) >= 2**15 or term(255, ma) + term(255, mb) + 2 ** (f - 1) >= 2**15


def test_equal_scales_add_with_six_fraction_bits() -> None:
    expected = AddConstants(16384, -16384, 6)
    assert add_constants(0.5, 0.5, 0.5, subtract=True) == expected


def test_scales_too_far_apart_need_the_wide_addition() -> None:
    assert add_constants(1.0, 1e-4, 1.0, subtract=False) is None
    assert add_constants(100.0, 100.0, 1.0, subtract=False) is None


@given(st.floats(2.0**-30, 2.0**10), st.floats(2.0**-30, 2.0**10), st.booleans())
def test_no_sum_of_a_wide_addition_leaves_32_bits(ra: float, rb: float, subtract: bool) -> None:
    ma, mb, shift = add_wide_constants(ra, rb, 1.0, subtract=subtract)
    assert max(abs(ma), abs(mb)) < 2**22
    assert 0 <= shift <= 30
    assert (mb <= 0) if subtract else (mb >= 0)
    assert 255 * (abs(ma) + abs(mb)) + (2**shift >> 1) < 2**31
    assert abs(ma - ra * 2**shift) <= 0.5
    assert abs(abs(mb) - rb * 2**shift) <= 0.5
    assert shift == 30 or max(abs(ma), abs(mb)) >= 2**20


@given(SCALES, SCALES, SCALES)
@example(1.0, 1.0, 2.0**-22 * 1.01)
@example(2.0**-12, 2.0**6, 2.0**6)
def test_no_step_of_a_division_leaves_its_bits(sa: float, sb: float, sy: float) -> None:
    if sa / sb / sy > 4e6:
        return
    multiplier, shift = div_constants(sa, sb, sy)
    assert multiplier >= 1
    assert 0 <= shift <= 22
    assert 255 * multiplier < 2**30
    assert 255 << shift < 2**30
    exact = Fraction(sa) / Fraction(sb) / Fraction(sy) * 2**shift
    assert multiplier == 1 or abs(multiplier - exact) <= Fraction(1, 2) + Fraction(1, 2**20)


@given(
    st.floats(2.0**-20, 2.0**10),
    st.lists(st.floats(-4.0, 4.0), min_size=1, max_size=5),
)
def test_no_product_of_a_prelu_leaves_32_bits(ratio: float, slopes: list[float]) -> None:
    positive, negatives, shift = prelu_constants(ratio, 1.0, np.array(slopes))
    assert negatives.dtype == np.int32
    assert 0 <= shift <= 30
    assert abs(positive - ratio * 2**shift) <= 0.5
    for m, slope in zip(negatives.tolist(), slopes, strict=True):
        assert abs(m) < 2**22
        assert 255 * abs(m) + (2**shift >> 1) < 2**31
        assert abs(m - ratio * slope * 2**shift) <= 0.5 + 1e-6
    assert 0 < positive < 2**22 or ratio * 2**shift <= 0.5


def test_prelu_multipliers_keep_the_shape_of_the_slopes() -> None:
    _, negatives, _ = prelu_constants(0.1, 0.2, np.full((3, 1, 2), 0.25))
    assert negatives.shape == (3, 1, 2)


@given(SCALES, SCALES, st.integers(1, 49))
def test_average_multipliers_divide_by_the_count(sx: float, sy: float, max_count: int) -> None:
    multipliers, shift = average_multipliers(sx, sy, max_count)
    assert multipliers.shape == (max_count + 1,)
    assert multipliers[0] == 0
    for count in range(1, max_count + 1):
        exact = Fraction(sx) / Fraction(sy) / count * 2**shift
        assert abs(int(multipliers[count]) - exact) <= 1


@given(SCALES, SCALES, SCALES, st.integers(1, 1000))
def test_products_and_sums_use_the_wide_form(sa: float, sb: float, sy: float, divisor: int) -> None:
    m, shift = mul_constants(sa, sb, sy)
    assert m / 2.0**shift == pytest.approx(sa * sb / sy, rel=1e-9)
    m, shift = sum_constants(sa, sy, divisor=divisor)
    assert m / 2.0**shift == pytest.approx(sa / sy / divisor, rel=1e-9)


def test_ratios_out_of_reach_are_errors_that_name_the_op() -> None:
    with pytest.raises(ValueError, match=r"addition: the ratio .* is too large"):
        add_wide_constants(2.0**23, 1.0, 1.0, subtract=False)
    with pytest.raises(ValueError, match=r"division: the ratio .* is too large"):
        div_constants(1.0, 1.0, 2.0**-23)
    with pytest.raises(ValueError, match=r"PRelu: the ratio .* is too large"):
        prelu_constants(2.0**23, 1.0, np.array([0.5]))
    with pytest.raises(ValueError, match="slopes of a PRelu must be finite"):
        prelu_constants(1.0, 1.0, np.array([np.inf]))
    with pytest.raises(ValueError, match="positive and finite"):
        mul_constants(0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="does not exist"):
        average_multipliers(1.0, 1.0, 0)
    with pytest.raises(ValueError, match="does not exist"):
        sum_constants(1.0, 1.0, divisor=0)
