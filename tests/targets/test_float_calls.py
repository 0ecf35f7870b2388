"""Code that rounds inputs and gives real numbers does what numpy's definition says."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.quant.qparams import QParams, dequantize, quantize
from qcomp.targets.base import Rounded
from qcomp.targets.cpu.process.floats import FloatCall

SIZES = (1, 15, 16, 17, 31, 33, 64)
PARAMETERS = (
    QParams(0.1, 3),
    QParams(1e-30, -128),
    QParams(3e37, 127),
    QParams(0.01, -5, -32768, 32767),
)
"""Steps of usual size, and those at which a float32 overflows or vanishes."""
Run = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3)


def numbers(size: int, q: QParams) -> NDArray[np.float32]:
    random = np.random.default_rng(size)
    halves = np.float32(q.scale) * (random.integers(-300, 300, size) + 0.5)
    x = np.where(random.random(size) < 0.3, halves, random.normal(0, 100 * q.scale, size))
    special = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -0.0]
    x[: len(special)] = special[:size]
    return np.clip(x, -3.4e38, 3.4e38, where=np.isfinite(x), out=x).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("q", PARAMETERS)
def test_integers_and_real_numbers_are_those_of_the_definition(size: int, q: QParams) -> None:
    dtype = np.int8 if q.bits == 8 else np.int16
    given, answer = (
        Rounded(np.empty(size, np.float32), np.empty(size, dtype), q.scale, q.zero_point)
        for _ in range(2)
    )
    arena = np.zeros(64, np.uint8)

    @Run
    def copies(x: int, y: int, own: int) -> int:
        ctypes.memmove(y, x, given.integers.nbytes)
        return 7 if own == arena.ctypes.data else 0

    address = ctypes.cast(copies, ctypes.c_void_p).value
    assert address is not None
    code = FloatCall([given], [answer])
    call = code.bound(address, [given], [answer], arena)
    given.real[...] = numbers(size, q)
    with np.errstate(over="ignore", under="ignore"):
        assert call() == 7
        wanted = quantize(given.real, q)
        assert_array_equal(given.integers, wanted)
        assert_array_equal(answer.real, dequantize(wanted, q))
