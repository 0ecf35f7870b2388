"""Generated convolutions and dense layers with 16 bits at either side equal their meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.ops import QConv2d, QDense
from qcomp.quant.fixed_point import Form, Requantize

# Bits of operand and result, and whether sums are i64; at least one of the two has 16 bits.
KINDS = [(16, 16, False), (16, 16, True), (16, 8, False), (16, 8, True), (8, 16, False)]


def values(kit: Any, bits: int, *shape: int, seed: int = 0) -> Any:
    return (kit.i8 if bits == 8 else kit.i16)(*shape, seed=seed)


def epilogue(kind: tuple[int, int, bool], channels: int, depth: int) -> tuple[Requantize, Any]:
    """Bias, multipliers and shifts per channel that spread sums of `depth` products."""
    source, result, wide = kind
    random = np.random.default_rng([channels, depth])
    bias = random.integers(-5000, 5000, channels).astype(np.int64 if wide else np.int32)
    if wide:
        bias += random.choice([-(2**36), 0, 2**36], channels)
    bits = int(np.log2(60 * np.sqrt(depth))) + 1 + source - result
    digits = 21 if wide else 31
    multiplier = random.integers(2 ** (digits - 1), 2**digits, channels).astype(np.int32)
    shift = np.maximum(digits + bits + random.integers(-1, 2, channels), 1).astype(np.int32)
    least = -(1 << (result - 1))
    zero_point = 7 if result == 8 else 0
    q = Requantize(Form.WIDE, zero_point, least + 5, -least - 3, bits=result)
    return q, [bias, multiplier, shift]


def check_conv(
    kit: Any,
    kind: tuple[int, int, bool],
    shape: tuple[int, ...],
    outputs: int,
    kernel: tuple[int, int],
    *,
    borders: bool = False,
    isas: Any = None,
    groups: int = 1,
    **window: Any,
) -> None:
    source, _, wide = kind
    x = values(kit, source, *shape)
    weight = np.maximum(kit.i8(outputs, *kernel, shape[3] // groups, seed=1), -127)
    if not wide:  # sums of the largest activations fit 32 bits
        most = (2**31 - 2**20) >> (source - 1)
        weight //= max(1, -(-int(np.abs(weight.astype(int)).sum(axis=(1, 2, 3)).max()) // most))
    q, tables = epilogue(kind, outputs, weight[0].size)
    zero_point = -5 if source == 8 else 0
    op = partial(QConv2d, x_zero_point=zero_point, requantize=q, groups=groups, **window)
    constants = [kit.fixed(a) for a in (weight, *tables)]
    kit.check(op, x, *constants, zero_point=zero_point, borders=borders, isas=isas)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_convolutions_on_every_instruction_set(kit: Any, isa: Any, kind: Any) -> None:
    same = {"padding": (1, 1, 1, 1)}
    check_conv(kit, kind, (1, 6, 7, 5), 35, (3, 3), isas=[isa], **same)
    check_conv(kit, kind, (2, 5, 6, 600), 33, (1, 1), isas=[isa])
    check_conv(kit, kind, (1, 6, 7, 35), 35, (3, 3), groups=35, isas=[isa], **same)


@pytest.mark.parametrize("inputs", [1, 3, 16, 17])
@pytest.mark.parametrize("outputs", [1, 3, 15, 16, 17, 31, 33, 64, 65])
def test_convolutions_of_any_channel_counts(kit: Any, inputs: int, outputs: int) -> None:
    kind = KINDS[(inputs + outputs) % len(KINDS)]
    check_conv(kit, kind, (1, 6, 7, inputs), outputs, (3, 3), padding=(1, 1, 1, 1))
    check_conv(kit, kind, (1, 5, 7, inputs), outputs, (1, 1))


@pytest.mark.parametrize(
    "window",
    [
        {"stride": (2, 2), "padding": (0, 0, 1, 1)},
        {"stride": (1, 3), "padding": (2, 1, 0, 3)},
        {"dilation": (2, 2), "padding": (2, 2, 2, 2)},
        {"dilation": (1, 3), "stride": (2, 1), "padding": (1, 4, 1, 2)},
        {"groups": 2},
        {"groups": 4, "padding": (1, 1, 1, 1), "stride": (2, 2)},
        {"groups": 12, "padding": (1, 1, 1, 1)},
        {"groups": 12, "padding": (0, 2, 1, 0), "dilation": (2, 1), "stride": (1, 2)},
    ],
    ids=str,
)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 4), (9, 1)], ids=str)
def test_convolution_windows(kit: Any, kernel: tuple[int, int], window: dict[str, Any]) -> None:
    first = kernel[0] + len(window)
    for outputs in (12, 24):  # the latter: two channels for each one
        kind = KINDS[(first + outputs // 12) % len(KINDS)]
        check_conv(kit, kind, (2, 20, 12, 12), outputs, kernel, borders=True, **window)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 9])
def test_rows_around_the_register_tile(kit: Any, width: int) -> None:
    for kind in kit.some(KINDS, width):
        check_conv(kit, kind, (1, 3, width, 5), 40, (3, 3), padding=(1, 1, 1, 1))
        check_conv(kit, kind, (1, 3, width, 20), 20, (3, 3), padding=(1, 1, 1, 1), groups=20)


@pytest.mark.parametrize("channels", [1, 4, 8, 16])
def test_depthwise_pixels_of_few_channels(kit: Any, isa: Any, channels: int) -> None:
    """Several fill a vector, where steps of one lie side by side."""
    for kind in kit.some(KINDS, channels):
        for width, stride in ((9, 1), (16, 1), (33, 1), (33, 2)):
            check_conv(
                kit, kind, (1, 4, width, channels), channels, (3, 3), groups=channels,
                padding=(1, 1, 1, 1), stride=(1, stride), isas=[isa],
            )  # fmt: skip


@pytest.mark.parametrize("x_value", [-(2**15), 2**15 - 1])
@pytest.mark.parametrize("w_value", [-127, 127])
def test_sums_of_extremes_are_exact(kit: Any, isa: Any, x_value: int, w_value: int) -> None:
    """2048 of the largest products: four parts that only just fit 32 bits each."""
    q = Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, bits=16)
    tables = [np.array([n], dt) for n, dt in ((3, np.int64), (2**20 + 1, np.int32), (39, np.int32))]
    x, weight = np.full((3, 2048), x_value, np.int16), np.full((1, 2048), w_value, np.int8)
    op = partial(QDense, x_zero_point=0, requantize=q)
    kit.check(op, x, *map(kit.fixed, (weight, *tables)), isas=[isa])


@pytest.mark.parametrize("zero_point", [-120, 0, 120])
def test_zero_points_that_leave_32_bits_before_the_shift(
    kit: Any, isa: Any, zero_point: int
) -> None:
    """Of a factor of 2^-26, what is added to high halves of products does not fit 32 bits."""
    random, channels = np.random.default_rng(0), 20
    bias = random.integers(-(3 << 29), 3 << 29, channels).astype(np.int32)
    multiplier = random.integers(2**30, 2**31, channels).astype(np.int32)
    tables = [bias, multiplier, np.full(channels, 57, np.int32)]
    q = Requantize(Form.WIDE, zero_point, -128, 127, bits=8)
    dense = partial(QDense, x_zero_point=0, requantize=q)
    weight = np.maximum(kit.i8(channels, 64, seed=1), -127)
    kit.check(dense, kit.i16(3, 64), *map(kit.fixed, (weight, *tables)), isas=[isa])
    same = {"groups": channels, "padding": (1, 1, 1, 1)}
    conv = partial(QConv2d, x_zero_point=0, requantize=q, **same)
    weight = np.maximum(kit.i8(channels, 3, 3, 1, seed=1), -127)
    x = kit.i16(1, 5, 6, channels)
    kit.check(conv, x, *map(kit.fixed, (weight, *tables)), isas=[isa])


def test_depthwise_kernels_of_many_taps(kit: Any) -> None:
    for kind in KINDS:
        check_conv(kit, kind, (1, 2, 700, 6), 6, (1, 600), groups=6)  # in two parts
        check_conv(kit, kind, (1, 30, 30, 6), 6, (11, 12), groups=6, padding=(3, 3, 3, 3))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 64), (2, 5, 33), (65,)], ids=str)
@pytest.mark.parametrize("outputs", [1, 10, 16, 33])
def test_dense_layers(kit: Any, shape: tuple[int, ...], outputs: int) -> None:
    weight = np.maximum(kit.i8(outputs, shape[-1], seed=1), -127)
    for kind in kit.some(KINDS, outputs + len(shape) + shape[-1]):
        q, tables = epilogue(kind, outputs, shape[-1])
        zero_point = 9 if kind[0] == 8 else 0
        op = partial(QDense, x_zero_point=zero_point, requantize=q)
        x = values(kit, kind[0], *shape)
        kit.check(op, x, *map(kit.fixed, (weight, *tables)), zero_point=zero_point)


@pytest.mark.parametrize("rows", [7, 8, 9, 16, 17, 33])
@pytest.mark.parametrize("outputs", [33, 48, 50, 96, 145])
def test_blocks_of_three_and_of_four_vectors(kit: Any, isa: Any, rows: int, outputs: int) -> None:
    """Tiles of pixels that are left over decide which."""
    kind = [k for k in KINDS if not k[2]][(rows + outputs) % 3]
    check_conv(kit, kind, (1, 1, rows, 12), outputs, (1, 1), isas=[isa])


@pytest.mark.sweep(40)
@given(data=st.data())
def test_random_convolutions(kit: Any, data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 5]))
    inputs = groups * draw(st.integers(1, 9))
    outputs = draw(st.sampled_from([groups * draw(st.integers(1, 20)), inputs]))
    if draw(st.booleans()):
        outputs = groups = inputs
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    window = {
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilation": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        "padding": draw(st.tuples(*[st.integers(0, 3)] * 4)),
    }
    extents = [
        draw(st.integers(max(1, (k - 1) * d + 1 - p), 17))
        for k, d, p in zip(kernel, window["dilation"], window["padding"][:2], strict=True)
    ]
    check_conv(
        kit,
        draw(st.sampled_from(KINDS)),
        (draw(st.integers(1, 2)), *extents, inputs),
        outputs,
        kernel,
        borders=draw(st.booleans()),
        isas=[draw(st.sampled_from(kit.isas))],
        groups=groups,
        **window,
    )
