"""Weights of few bits as bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.quant.grid import largest
from qcomp.quant.packing import fewest_bits, pack, powers_of_two, unpack

WIDTHS = (1, 2, 3, 4, 8)


@given(st.sampled_from(WIDTHS), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_back(bits: int, count: int, seed: int) -> None:
    random, limit = np.random.default_rng(seed), largest(bits)
    q = random.integers(-limit, limit, count, endpoint=True)
    q = np.where(q < 0, -1, 1) if bits == 1 else q
    data = pack(q, bits)
    assert data.size == -(-count * bits // 8)
    assert unpack(data, bits, (count, 1)).tolist() == q.reshape(-1, 1).tolist()
    assert fewest_bits(q) <= bits


def test_the_first_integer_has_the_lowest_bits() -> None:
    assert pack(np.array([-7, 7, 0]), 4).tolist() == [0xE0, 0x07]
    assert pack(np.array([0, 1, -1, 1]), 2).tolist() == [0b10_00_10_01]
    assert pack(np.array([1, -1, -1, 1]), 1).tolist() == [0b1001]
    assert pack(np.array([-3, 3, 0]), 3).tolist() == [0b11_110_000, 0b0]


@pytest.mark.parametrize(("q", "bits"), [(8, 4), (-2, 2), (0, 1), (-128, 8)])
def test_integers_that_are_not_on_the_grid_are_refused(q: int, bits: int) -> None:
    with pytest.raises(ValueError, match=f"{q} is not an integer of {bits} bits"):
        pack(np.array([1, q]), bits)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_bytes_must_be_as_many_as_the_integers_take(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes are not 3 integers of 4 bits"):
        unpack(np.zeros(size, np.uint8), 4, (3,))


def test_the_fewest_bits_are_those_of_the_largest_integer() -> None:
    cases = {1: [1, -1], 2: [1, 0], 3: [-3, 1], 4: [7, 0], 8: [0, -8]}
    assert {bits: fewest_bits(np.array(q, np.int8)) for bits, q in cases.items()} == {
        bits: bits for bits in cases
    }
    assert fewest_bits(np.array([-128], np.int8)) == 8
    assert fewest_bits(np.zeros(0, np.int8)) == 1


def test_powers_of_two_are_those_that_divide_a_whole_channel() -> None:
    q = np.array([[3, 4], [-4, 12], [-64, 64], [0, 0], [-8, 0]], np.int8)
    assert powers_of_two(q, 6).tolist() == [0, 2, 6, 0, 3]
    assert powers_of_two(q, 4).tolist() == [0, 2, 4, 0, 3]
