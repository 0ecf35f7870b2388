"""Generated normalisations equal their meaning."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

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
