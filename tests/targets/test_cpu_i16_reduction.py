"""Generated pooling, sums, softmaxes and matrix products with 16 bits equal their meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from qcomp.ir.ops import (
    ArgMax,
    MaxPool2d,
    QAveragePool2d,
    QLogSoftmax,
    QMatMul,
    QReduceExtreme,
    QReduceSum,
    QSoftmax,
    Reduction,
    Resize2d,
    ResizeMode,
)
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tables import exp_table, exp_table_16, log_softmax_constants_16, log_table_16

WINDOWS = [
    {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)},
    {"kernel": (2, 3), "dilation": (2, 1), "padding": (0, 1, 2, 0)},
    {"kernel": (1, 9), "padding": (0, 3, 0, 4)},
    {"kernel": (11, 13)},
]
ONE_WAY = [(16, 16), (16, 8), (8, 16)]  # bits of operand and result
ZERO = -5


def values(kit: Any, bits: int, *shape: int, seed: int = 0) -> Any:
    return (kit.i8 if bits == 8 else kit.i16)(*shape, seed=seed)


def zero_point(bits: int) -> int:
    return ZERO if bits == 8 else 0


def requantize(bits: int) -> Requantize:
    least = -(1 << (bits - 1))
    return Requantize(Form.WIDE, zero_point(bits), least + 3, -least - 2, bits)


def check(kit: Any, op: Any, *operands: Any, **options: Any) -> None:
    kit.check(op, *operands, zero_point=ZERO, **options)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_pool(kit: Any, window: dict[str, Any]) -> None:
    for channels in (1, 19, 70):
        check(kit, partial(MaxPool2d, **window), kit.i16(2, 11, 13, channels), borders=True)


@pytest.mark.parametrize("bits", ONE_WAY, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_average_pool(kit: Any, window: dict[str, Any], bits: tuple[int, int]) -> None:
    x, y = bits
    taps = int(np.prod(window["kernel"]))
    multipliers = np.array([0, *(2**30 // n for n in range(1, taps + 1))], np.int32)
    for counts in (False, True):
        op = partial(
            QAveragePool2d, x_zero_point=zero_point(x), shift=30 + x - y,
            requantize=requantize(y), count_include_pad=counts, **window,
        )  # fmt: skip
        for channels in kit.some((1, 19, 40), taps + counts):
            check(
                kit, op, values(kit, x, 2, 11, 13, channels), kit.fixed(multipliers), borders=True
            )


def test_a_window_of_more_taps_than_32_bits_hold(kit: Any) -> None:
    multipliers = np.full(200 * 190 + 1, 2**20, np.int32)
    op = partial(
        QAveragePool2d, x_zero_point=0, shift=35, requantize=requantize(16), kernel=(200, 190)
    )
    check(kit, op, np.full((1, 200, 191, 2), -(2**15), np.int16), kit.fixed(multipliers))


@pytest.mark.parametrize("axes", [(0,), (3,), (1, 2), (2, 3), (0, 1, 2, 3)], ids=str)
def test_reductions(kit: Any, axes: tuple[int, ...]) -> None:
    for keepdims in (False, True):
        over = {"axes": axes, "keepdims": keepdims}
        for x, y in ONE_WAY:
            op = partial(
                QReduceSum, x_zero_point=zero_point(x), multiplier=2**30 + 7,
                shift=34 + x - y, requantize=requantize(y), **over,
            )  # fmt: skip
            check(kit, op, values(kit, x, 2, 5, 6, 37), borders=not keepdims)
        for kind in (Reduction.MAX, Reduction.MIN):
            check(kit, partial(QReduceExtreme, kind=kind, **over), kit.i16(2, 5, 6, 37))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 31, 33, 64, 65, 129, 300])
def test_sizes_around_vectors_and_groups(kit: Any, isa: Any, size: int) -> None:
    mean = partial(
        QReduceSum, keepdims=False, x_zero_point=0, multiplier=2**30 + 7, shift=36,
        requantize=requantize(16),
    )  # fmt: skip
    x = kit.i16(3, size)
    for axis in (0, 1):
        check(kit, partial(mean, axes=(axis,)), x, isas=[isa])
        check(kit, partial(ArgMax, axis=axis), x, isas=[isa])


@pytest.mark.parametrize("value", [-(2**15), 2**15 - 1])
def test_sums_beyond_32_bits(kit: Any, value: int) -> None:
    op = partial(
        QReduceSum, axes=(0,), keepdims=False, x_zero_point=0, multiplier=2**20, shift=37,
        requantize=requantize(16),
    )  # fmt: skip
    check(kit, op, np.full((90001, 3), value, np.int16))


@pytest.mark.parametrize("last", [False, True])
def test_argmax_decides_ties(kit: Any, last: bool) -> None:
    x = np.random.default_rng(0).integers(-2, 3, (3, 40, 17)).astype(np.int16) * 9000
    for axis in range(3):
        check(kit, partial(ArgMax, axis=axis, last=last), x)


@pytest.mark.parametrize("size", [64, 80, 127, 128, 1000])
def test_long_rows_of_8_bits_give_probabilities_of_16(kit: Any, size: int) -> None:
    """Where one is nearly certain, where all are alike, and in between."""
    op = partial(QSoftmax, axis=1, bits=16)
    rows = np.full((3, size), -128, np.int8)
    rows[1, size - 1] = 127
    for scale in (1e-6, 0.02, 2.0):
        check(kit, op, np.concatenate([kit.i8(5, size), rows]), kit.fixed(exp_table(scale)))


@pytest.mark.parametrize("size", [1, 2, 10, 33, 1001])
@pytest.mark.parametrize("bits", ONE_WAY, ids=str)
def test_softmax(kit: Any, size: int, bits: tuple[int, int]) -> None:
    x, y = bits
    for scale in (1e-5, 0.0003, 0.02):
        table = kit.fixed(exp_table_16(scale) if x == 16 else exp_table(256 * scale))
        op = partial(QSoftmax, axis=1, bits=y)
        check(kit, op, values(kit, x, 3, size), table)
        check(kit, op, np.full((2, size, 3), -7, np.int8 if x == 8 else np.int16), table)


@pytest.mark.parametrize("bits", ONE_WAY, ids=str)
def test_softmaxes_on_every_instruction_set(kit: Any, isa: Any, bits: tuple[int, int]) -> None:
    x, y = bits
    scale = 0.0003 if x == 16 else 0.05
    exponentials = exp_table_16(scale) if x == 16 else exp_table(scale)
    for y_scale in (20 / 2**y, 1.5 / 2**y):
        multiplier, shift, units = log_softmax_constants_16(scale, y_scale)
        tables = exponentials, log_table_16(units, 30 if x == 16 else 16)
        log = partial(
            QLogSoftmax, axis=2, multiplier=multiplier, shift=shift, bits=y,
            zero_point=120 if y == 8 else 0,
        )  # fmt: skip
        check(kit, log, values(kit, x, 3, 5, 41), *map(kit.fixed, tables), isas=[isa])
    op = partial(QSoftmax, axis=3, bits=y)
    operands = values(kit, x, 2, 3, 4, 19), kit.fixed(exponentials)
    check(kit, op, *operands, isas=[isa], borders=True)


@pytest.mark.parametrize("kind", [(16, 16, 16), (16, 8, 16), (8, 16, 8), (8, 8, 16)], ids=str)
@pytest.mark.parametrize("columns", [1, 3, 16, 17, 70])
def test_matrix_products(kit: Any, kind: tuple[int, int, int], columns: int) -> None:
    a, b, y = kind
    op = partial(
        QMatMul, a_zero_point=zero_point(a), b_zero_point=zero_point(b),
        multiplier=2**20 + 3, shift=23 + a + b - y, requantize=requantize(y),
    )  # fmt: skip
    for left, right in (((5, 9), (9, columns)), ((2, 3, 6, 20), (3, 20, columns))):
        check(kit, op, values(kit, a, *left), values(kit, b, *right, seed=1))


@pytest.mark.parametrize("size", [(14, 18), (3, 4), (21, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("mode", list(ResizeMode), ids=lambda m: m.value)
def test_resampling(kit: Any, size: tuple[int, int], mode: ResizeMode) -> None:
    for channels in (1, 20, 33):
        op = partial(Resize2d, size=size, scale=(size[0] / 7, size[1] / 9), mode=mode)
        check(kit, op, kit.i16(2, 7, 9, channels), borders=True)
