"""Generated code of scales that are found at run time equals its meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from qcomp.ir.ops import QAbsMax, QScaleDown, QScaleUp

I16 = np.iinfo(np.int16)
# shape, axes of a scale: of a token, of an image
LAYOUTS = [
    ((3, 37), (1,)),
    ((2, 3, 64), (2,)),
    ((2, 3, 5, 7), (1, 2, 3)),
    ((1, 4, 4, 32), (1, 2, 3)),
]


def values(random: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Scales over all magnitudes, one of 0 and one of the least value of i16."""
    x = random.integers(I16.min, I16.max + 1, shape).astype(np.int16)
    rows = x.reshape(-1, shape[-1])
    rows >>= (np.arange(len(rows)) % 16)[:, None].astype(np.int16)
    rows[len(rows) // 2] = 0
    rows[-1, -1] = I16.min
    return x


@pytest.mark.parametrize(("shape", "axes"), LAYOUTS, ids=str)
def test_maxima(kit: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    kit.check(partial(QAbsMax, axes=axes), values(np.random.default_rng(0), shape))


@pytest.mark.parametrize(("shape", "axes"), LAYOUTS, ids=str)
def test_scaling_down(kit: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = values(np.random.default_rng(1), shape)
    largest = np.abs(x.astype(np.int32)).max(axis=axes, keepdims=True)
    kit.check(QScaleDown, x, np.minimum(largest, I16.max).astype(np.int16))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("shape", "axes"), LAYOUTS, ids=str)
def test_scaling_up(kit: Any, shape: tuple[int, ...], axes: tuple[int, ...], bits: int) -> None:
    random = np.random.default_rng(2)
    x = values(random, shape)
    scale = np.abs(values(random, tuple(1 if i in axes else n for i, n in enumerate(shape))))
    scale = np.maximum(scale, 0).astype(np.int16)  # but for the magnitude of the least value
    bias = random.integers(-(2**30), 2**30, shape[-1:]).astype(np.int32)
    limit = 1 << (bits - 1)
    make = partial(QScaleUp, shift=30 - bits, qmin=3 - limit, qmax=limit - 2, bits=bits)
    kit.check(make, x, scale, kit.fixed(bias))
