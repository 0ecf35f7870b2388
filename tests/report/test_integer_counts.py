"""Histograms of integers: every value is counted once, in the bin that it belongs to."""

from __future__ import annotations

import numpy as np

from qcomp.quant.qparams import QParams
from qcomp.report.integer_counts import BINS, IntegerCounts


def test_bytes_have_a_bin_each_over_all_samples() -> None:
    counts, q = IntegerCounts(), QParams(0.5, 3)
    for values in ([-128, -128, 5], [127, 5, -1]):
        counts.add("a", np.array(values, np.int8), q)
    found = counts.of("a")
    assert found is not None
    assert (found.low, found.width, len(found.counts)) == (-128, 1, BINS)
    assert {n + found.low: c for n, c in enumerate(found.counts) if c} == {
        -128: 2,
        -1: 1,
        5: 2,
        127: 1,
    }
    assert found.used == (-128, 127)
    assert found.at_ends == 3 / 6


def test_bins_of_16_bits_are_256_wide() -> None:
    counts, q = IntegerCounts(), QParams(0.5, 0, -32768, 32767)
    counts.add("a", np.array([[-32768, -32767, -1], [0, 255, 256]], np.int16), q)
    found = counts.of("a")
    assert found is not None
    bins = {found.low + n * found.width: c for n, c in enumerate(found.counts) if c}
    assert bins == {-32768: 2, -256: 1, 0: 2, 256: 1}
    assert found.used == (-32768, 511)


def test_a_tensor_without_values_has_none() -> None:
    assert IntegerCounts().of("a") is None
