"""Generated normalisations equal their meaning."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.ops import QNormalize
from qcomp.quant.inverse_root import inverse_root_table
from qcomp.quant.normalize_constants import power_constants, precision_of
from qcomp.quant.qparams import QParams, integer_range

WIDTHS = [(source, bits) for source in (8, 16) for bits in (8, 16)]
# shape, axes of a group, shape of the parameters
LAYOUTS = [
    ((3, 5, 37), (2,), (37,)),
    ((2, 67), (1,), (1,)),
    ((2, 3, 16), (1, 2), (3, 16)),
    ((1, 4, 5, 20), (1, 2), (20,)),
    ((2, 3, 3, 4, 5), (1, 2, 4), (4, 5)),
    ((2, 4, 6), (1,), (4, 1)),
    ((3, 7), (0, 1), (7,)),
    ((5, 1, 3), (1,), (3,)),
    ((2, 3, 4), (0, 2), (3, 1)),
]


def normalize(
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    *,
    source: int,
    bits: int,
    centered: bool = True,
    epsilon: float = 1e-3,
    reach: float = math.inf,
) -> partial[QNormalize]:
    count = math.prod(shape[a] for a in axes)
    low, high = integer_range(source)
    power = power_constants(
        QParams(0.03, 0, low, high), count, epsilon=epsilon, least=0.0, centered=centered
    )
    qmin, qmax = integer_range(bits)
    return partial(
        QNormalize, axes=axes, centered=centered, x_zero_point=0,
        fraction_bits=power.fraction_bits, mean_multiplier=power.mean_multiplier,
        mean_shift=power.mean_shift, added=power.added, least=power.least,
        precision=precision_of(count, reach), shift=11, qmin=qmin + 1, qmax=qmax - 1, bits=bits,
    )  # fmt: skip


def operands(
    kit: Any, random: np.random.Generator, shape: tuple[int, ...], source: int, parameters: Any
) -> list[Any]:
    low, high = integer_range(source)
    x = random.integers(low, high + 1, shape, np.int8 if source == 8 else np.int16)
    flat = x.reshape(shape[0], -1)
    flat[0] >>= source // 2  # a group of small values
    gamma = random.integers(1 - 2**14, 2**14, parameters).astype(np.int16)
    beta = random.integers(-(2**26), 2**26, parameters).astype(np.int32)
    return [x, *map(kit.fixed, (inverse_root_table(), gamma, beta))]


@pytest.mark.parametrize(("source", "bits"), WIDTHS)
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_groups_of_any_axes(kit: Any, layout: Any, centered: bool, source: int, bits: int) -> None:
    shape, axes, parameters = layout
    random = np.random.default_rng(0)
    make = normalize(shape, axes, source=source, bits=bits, centered=centered)
    kit.check(make, *operands(kit, random, shape, source, parameters))


def rows_of_every_size(random: np.random.Generator, count: int, source: int) -> Any:
    """Equal values, single values, the least and the largest, and random rows of every size."""
    low, high = integer_range(source)
    rows = [np.full(count, v) for v in (0, 1, -1, low, high)]
    last = np.arange(count) == count - 1
    rows += [np.where(last, value, 0) for value in (1, -1, low, high)]
    rows.append(np.where(np.arange(count) % 2, low, high))
    rows += [random.integers(-(2**k), 2**k, count) for k in range(source)]
    return np.array(rows, np.int8 if source == 8 else np.int16)


@pytest.mark.parametrize(("source", "bits"), WIDTHS)
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 1e9])
@pytest.mark.parametrize("reach", [math.inf, 0.02])
def test_rows_of_every_size(
    kit: Any, reach: float, epsilon: float, centered: bool, source: int, bits: int
) -> None:
    """From shifts to the left of a row of one step to those to the right of the largest."""
    count = 45
    random = np.random.default_rng(3)
    x = rows_of_every_size(random, count, source)
    make = normalize(
        x.shape, (1,), source=source, bits=bits, centered=centered, epsilon=epsilon, reach=reach
    )
    _, *parameters = operands(kit, random, (1, 1), source, (count,))
    kit.check(make, x, *parameters)


def test_a_zero_point_is_taken_off_where_there_is_no_mean(kit: Any) -> None:
    random = np.random.default_rng(4)
    make = normalize((4, 33), (1,), source=8, bits=16, centered=False)
    shifted = partial(make, x_zero_point=-97)
    kit.check(shifted, *operands(kit, random, (4, 33), 8, (33,)), zero_point=-97)


def test_a_group_whose_squares_need_all_bits(kit: Any) -> None:
    """Of 131072 values of 16 bits 6 fraction bits are left."""
    count = 1 << 17
    make = normalize((1, count), (1,), source=16, bits=8)
    assert make.keywords["fraction_bits"] == 6
    x = np.where(np.arange(count) % 2, -(2**15), 2**15 - 1).astype(np.int16)[None]
    _, *parameters = operands(kit, np.random.default_rng(5), (1, 1), 16, (1,))
    kit.check(make, x, *parameters)


@pytest.mark.parametrize("axes", [(1, 2), (3,), (1, 2, 3)])
def test_images_with_a_border_in_memory(kit: Any, axes: tuple[int, ...]) -> None:
    shape = (1, 4, 5, 20)
    make = normalize(shape, axes, source=8, bits=8)
    kit.check(make, *operands(kit, np.random.default_rng(6), shape, 8, (20,)), borders=True)


@pytest.mark.sweep(12)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple),
    widths=st.sampled_from(WIDTHS),
    centered=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_any_axes_of_any_shape(
    kit: Any,
    shape: tuple[int, ...],
    widths: tuple[int, int],
    centered: bool,
    seed: int,
    data: st.DataObject,
) -> None:
    rank = len(shape)
    axes = data.draw(st.sets(st.integers(0, rank - 1), min_size=1).map(sorted).map(tuple))
    parameters = tuple(e if data.draw(st.booleans()) else 1 for e in shape)
    source, bits = widths
    make = normalize(shape, axes, source=source, bits=bits, centered=centered)
    kit.check(make, *operands(kit, np.random.default_rng(seed), shape, source, parameters))
