"""Generated code on sums of 32 bits equals its meaning, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from qcomp.ir.ops import (
    InterpolateOctaves,
    Op,
    QAddWide,
    QAveragePool2d,
    QConv2d,
    QDense,
    QDiv,
    QMul,
    QReduceSum,
    QRescale,
    Transpose,
)
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.octaves import octaves_table
from qcomp.quant.qparams import QParams, integer_range

I32 = np.iinfo(np.int32)


def sums(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Of all sizes, with the extremes, 0, 1, -1 and a power of two."""
    rng = np.random.default_rng(seed)
    x = (np.exp(rng.uniform(0, 21.4, shape)) * rng.choice([-1, 1], shape)).astype(np.int32)
    x.ravel()[:7] = [I32.min, I32.max, 0, 1, -1, 2**20, 2**20 - 1]
    return x


def wide(bits: int) -> Requantize:
    return Requantize(Form.WIDE, 0, *integer_range(bits), bits=bits)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log": np.log,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "line": lambda x: 0.3 * x + 1.0,
}


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_by_octaves(kit: Any, name: str, bits: int) -> None:
    low, high = integer_range(bits)
    largest = {"log": 23.0, "sqrt": 5.0, "reciprocal": 100.0, "line": 8.0}[name]
    y = QParams.from_range(-largest, largest, qmin=low, qmax=high, symmetric=True)
    step_bits, table = octaves_table(FUNCTIONS[name], QParams(1e-8, 0, I32.min, I32.max), y)
    op = partial(
        InterpolateOctaves, step_bits=step_bits, zero_point=0, qmin=low, qmax=high, bits=bits
    )
    kit.check(op, sums(3, 35), kit.fixed(table))


ELEMENTWISE: dict[str, tuple[Callable[..., Op], tuple[type, ...]]] = {
    "squares of i16": (
        partial(QMul, a_zero_point=0, b_zero_point=0, multiplier=2**30, shift=29,
                requantize=wide(32)),
        (np.int16, np.int16),
    ),
    "a gain": (
        partial(QMul, a_zero_point=0, b_zero_point=3, multiplier=2**20, shift=28,
                requantize=wide(32)),
        (np.int32, np.int8),
    ),
    "a sum": (
        partial(QAddWide, a_zero_point=0, b_zero_point=0, a_multiplier=2**30,
                b_multiplier=123456789, shift=31, zero_point=0, qmin=I32.min, qmax=I32.max,
                bits=32),
        (np.int32, np.int32),
    ),
    "a quotient": (
        partial(QDiv, a_zero_point=0, b_zero_point=0, multiplier=2**28, shift=20, zero_point=0,
                qmin=-32768, qmax=32767, bits=16),
        (np.int32, np.int32),
    ),
    "a quotient of 32 bits": (
        partial(QDiv, a_zero_point=0, b_zero_point=0, multiplier=2**29, shift=10, zero_point=0,
                qmin=I32.min, qmax=I32.max, bits=32),
        (np.int32, np.int16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(kit: Any, name: str) -> None:
    make, dtypes = ELEMENTWISE[name]
    draw = {np.int8: kit.i8, np.int16: kit.i16, np.int32: sums}
    kit.check(make, *(draw[d](3, 35, seed=n) for n, d in enumerate(dtypes)))


@pytest.mark.parametrize(("multiplier", "shift", "bits"), [(2**30, 45, 16), (2**29, 30, 32)])
def test_rescales(kit: Any, multiplier: int, shift: int, bits: int) -> None:
    make = partial(
        QRescale, x_zero_point=0, multiplier=multiplier, shift=shift, requantize=wide(bits)
    )
    kit.check(make, sums(2, 37))


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("source", [np.int16, np.int32])
def test_sums_over_axes(kit: Any, source: Any, axes: tuple[int, ...]) -> None:
    x = sums(2, 9, 17) if source is np.int32 else kit.i16(2, 9, 17)
    shift = 31 if source is np.int32 else 12
    make = partial(
        QReduceSum, axes=axes, keepdims=False, x_zero_point=0, multiplier=2**20, shift=shift - 8,
        requantize=wide(32),
    )  # fmt: skip
    kit.check(make, x)


def test_means_of_windows(kit: Any) -> None:
    multipliers = np.round(2**20 / np.maximum(np.arange(6), 1)).astype(np.int32)
    multipliers[0] = 0
    make = partial(
        QAveragePool2d, x_zero_point=0, shift=20, requantize=wide(32), kernel=(1, 5),
        padding=(0, 2, 0, 2), count_include_pad=False,
    )  # fmt: skip
    kit.check(make, sums(1, 1, 11, 13), kit.fixed(multipliers))


@pytest.mark.parametrize(
    ("source", "bits", "channels", "depth"),
    [(np.int32, 32, 19, 33), (np.int32, 8, 3, 5), (np.int32, 16, 8, 1), (np.int16, 32, 17, 9)],
)
def test_dense_layers(kit: Any, source: Any, bits: int, channels: int, depth: int) -> None:
    rng = np.random.default_rng(channels)
    weight = rng.integers(-127, 128, (channels, depth), np.int8)
    x = sums(5, depth + 7)[:, :depth].copy() if source is np.int32 else kit.i16(5, depth)
    bias = rng.integers(-(2**30), 2**30, channels) * (2**10 if source is np.int32 else 1)
    shift = np.full(channels, 24 if bits == 32 else 40, np.int32)
    constants = (
        weight,
        bias.astype(np.int64),
        rng.integers(2**12, 2**13, channels).astype(np.int32),
        shift,
    )
    make = partial(QDense, x_zero_point=0, requantize=wide(bits))
    kit.check(make, x, *map(kit.fixed, constants))


@pytest.mark.parametrize("groups", [1, 6])
def test_convolutions(kit: Any, groups: int) -> None:
    rng = np.random.default_rng(groups)
    weight = rng.integers(-127, 128, (6, 3, 2, 6 // groups), np.int8)
    constants = (
        weight,
        rng.integers(-(2**40), 2**40, 6),
        np.full(6, 2**12 + 5, np.int32),
        np.full(6, 22, np.int32),
    )
    make = partial(
        QConv2d, x_zero_point=0, requantize=wide(32), padding=(1, 1, 1, 0), groups=groups
    )
    kit.check(make, sums(2, 5, 7, 6), *map(kit.fixed, constants))


def test_movements_copy_them(kit: Any) -> None:
    kit.check(partial(Transpose, permutation=(0, 2, 1)), sums(2, 5, 9))
