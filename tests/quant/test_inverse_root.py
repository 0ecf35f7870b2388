"""The inverse root in integers is as close as its module says, for every number."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.quant.inverse_root import (
    ENTRIES,
    EXPONENT,
    FIRST,
    inverse_root,
    inverse_root_of_mantissa,
    inverse_root_table,
)

TABLE = inverse_root_table()
MOST = 2**15 - 1


def runs() -> Iterator[tuple[int, int, int]]:
    """(first, last, R) of each run of mantissas that have one entry and one root.

    R falls with x, so the last x of a run follows from the least step that still rounds to R:
    y * (3 * 2^30 - b) + 2^31 >= R << 32, and b = y^2 x >> 32.
    """
    for i, y in enumerate(map(int, TABLE)):
        first, end = (FIRST + i) << 24, (FIRST + i + 1) << 24
        while first < end:
            root = min(MOST, (y * ((3 << 30) - (y * y * first >> 32)) + (1 << 31)) >> 32)
            least = -(((1 << 31) - (root << 32)) // y)  # of 3 * 2^30 - b
            last = min(end - 1, ((((3 << 30) - least + 1) << 32) - 1) // (y * y))
            yield first, last, root
            first = last + 1


def test_every_mantissa_has_a_root_within_the_bound() -> None:
    """The error of a run is largest at its ends, as the real root falls with x."""
    errors, covered, expected = [], 0, 1 << 30
    for first, last, root in runs():
        assert first == expected
        assert first <= last
        assert 2**14 <= root <= MOST
        errors += [root - 2.0**15 * math.sqrt(2.0**30 / x) for x in (first, last)]
        covered += last - first + 1
        expected = last + 1
    assert covered == 3 << 30
    assert min(errors) > -1.25
    assert max(errors) < 0.51


def test_the_meaning_has_the_roots_of_these_runs() -> None:
    ends = [(x, root) for first, last, root in runs() for x in (first, last)]
    mantissas, roots = (np.array(column) for column in zip(*ends, strict=True))
    assert_array_equal(inverse_root_of_mantissa(mantissas.astype(np.uint64), TABLE), roots)


def test_the_table_fits_sixteen_bits() -> None:
    assert TABLE.shape == (ENTRIES,)
    assert TABLE.min() > 0
    assert TABLE.max() < 2**16


@given(st.integers(1, 2**63 - 1))
def test_a_number_of_any_size(v: int) -> None:
    """With the bits that the mantissa loses the error is still below 1.25 and 0.51 ulp."""
    root, n = (int(a[0]) for a in inverse_root(np.array([v]), TABLE))
    assert 0 <= n <= 31
    exact = 2.0 ** (EXPONENT - n) / math.sqrt(v)
    assert -1.25 < root - exact < 0.51
    assert 2**30 <= v << 2 * n >> 32 < 2**32
