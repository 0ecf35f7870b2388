"""Generated convolutions and dense layers equal their meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.ops import QConv2d, QDense
from qcomp.quant.fixed_point import Form, Requantize

CHANNELS = [1, 3, 15, 16, 17, 31, 33, 64]
FORMS = [Form.NARROW, Form.WIDE, Form.TFLITE, Form.AWAY]


def epilogue(form: Form, channels: int, depth: int) -> tuple[Requantize, list[Any]]:
    """Bias, multipliers and shifts per channel that spread sums of `depth` products over i8."""
    random = np.random.default_rng([channels, depth])
    bias = random.integers(-5000, 5000, channels).astype(np.int32)
    bits = int(np.log2(60 * np.sqrt(depth))) + 1  # sums are about 2^(bits + 7)
    spread = random.integers(-1, 2, channels)
    if form is Form.NARROW:
        bits_of_m = random.integers(9, 15, channels)
        multiplier = np.maximum(2**bits_of_m + random.integers(-(2**7), 2**7, channels), 257)
        shift = np.maximum(bits + bits_of_m - 15 + spread, 0)
    elif form is Form.AWAY:
        multiplier, shift = random.integers(2**45, 2**46, channels), 46 + bits + spread
    elif form is Form.ONNX:
        factors = random.uniform(0.5, 1.0, channels) * 2.0 ** -(bits + spread)
        multiplier, shift = factors.astype(np.float32).view(np.int32), 0 * spread
    elif form is Form.WIDE:
        multiplier, shift = random.integers(2**30, 2**31, channels), 31 + bits + spread
    else:
        multiplier, shift = random.integers(2**30, 2**31, channels), -bits - spread
    words = multiplier if form is Form.AWAY else multiplier.astype(np.int32)
    tables = [bias, words, shift.astype(np.int32)]
    return Requantize(form, 7, -120, 126), tables


def check_conv(
    kit: Any,
    x: Any,
    outputs: int,
    kernel: tuple[int, int],
    *,
    form: Form = Form.NARROW,
    zero_point: int = -5,
    borders: bool = False,
    isas: Any = None,
    groups: int = 1,
    limits: tuple[int, int, int] | None = None,
    **window: Any,
) -> None:
    """limits: zero point, least and greatest of the results."""
    weight = np.maximum(kit.i8(outputs, *kernel, x.shape[3] // groups, seed=1), -127)
    q, tables = epilogue(form, outputs, weight[0].size)
    if limits is not None:
        q = Requantize(form, *limits)
    op = partial(QConv2d, x_zero_point=zero_point, requantize=q, groups=groups, **window)
    constants = [kit.fixed(a) for a in (weight, *tables)]
    kit.check(op, x, *constants, zero_point=zero_point, borders=borders, isas=isas)


@pytest.mark.parametrize("inputs", [1, 3, 16, 17])
@pytest.mark.parametrize("outputs", CHANNELS)
def test_convolutions_of_any_channel_counts(kit: Any, inputs: int, outputs: int) -> None:
    check_conv(kit, kit.i8(1, 6, 7, inputs), outputs, (3, 3), padding=(1, 1, 1, 1))
    check_conv(kit, kit.i8(1, 5, 7, inputs), outputs, (1, 1))


@pytest.mark.parametrize("form", [*FORMS, Form.ONNX], ids=lambda f: f.value)
@pytest.mark.parametrize("zero_point", [-128, 127])
def test_convolutions_in_every_form(kit: Any, form: Form, zero_point: int) -> None:
    x = kit.i8(2, 6, 9, 8)
    options: dict[str, Any] = {"form": form, "zero_point": zero_point}
    check_conv(kit, x, 20, (3, 3), padding=(1, 1, 1, 1), **options)
    check_conv(kit, x, 8, (3, 3), padding=(1, 1, 1, 1), groups=8, **options)


@pytest.mark.parametrize(
    "limits", [(-128, -128, 127), (-128, -128, 90), (5, -128, 127), (-128, -100, 127)], ids=str
)
def test_limits_that_are_those_of_bytes_are_left_out(
    kit: Any, limits: tuple[int, int, int]
) -> None:
    options: dict[str, Any] = {"limits": limits, "isas": kit.isas, "padding": (1, 1, 1, 1)}
    check_conv(kit, kit.i8(1, 4, 5, 8), 20, (3, 3), **options)
    check_conv(kit, kit.i8(1, 5, 7, 20), 20, (3, 3), groups=20, **options)


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
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 4), (3, 1)], ids=str)
def test_convolution_windows(kit: Any, kernel: tuple[int, int], window: dict[str, Any]) -> None:
    check_conv(kit, kit.i8(2, 10, 12, 12), 24, kernel, borders=True, **window)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 7, 13, 14, 15, 29])
def test_rows_around_the_register_tile(kit: Any, width: int) -> None:
    check_conv(kit, kit.i8(1, 3, width, 5), 40, (1, 1))
    check_conv(kit, kit.i8(1, 3, width, 5), 40, (3, 3), padding=(1, 1, 1, 1))
    check_conv(kit, kit.i8(1, 3, width, 20), 20, (3, 3), padding=(1, 1, 1, 1), groups=20)


def test_a_one_dimensional_convolution(kit: Any) -> None:
    check_conv(kit, kit.i8(2, 1, 50, 9), 17, (1, 7), padding=(0, 3, 0, 3), stride=(1, 2))


def test_a_depthwise_convolution_with_a_multiplier(kit: Any) -> None:
    check_conv(kit, kit.i8(1, 7, 9, 6), 12, (3, 3), groups=6, padding=(1, 1, 1, 1))


@pytest.mark.parametrize("x_value", [-128, 127])
@pytest.mark.parametrize("w_value", [-127, 127])
def test_sums_of_extremes_are_exact(kit: Any, x_value: int, w_value: int) -> None:
    x = np.full((1, 4, 4, 64), x_value, np.int8)
    for outputs, groups, depth in ((16, 1, 64), (64, 64, 1)):
        weight = np.full((outputs, 3, 3, depth), w_value, np.int8)
        q, tables = epilogue(Form.WIDE, outputs, weight[0].size)
        for zero_point in (-128, 127):
            op = partial(QConv2d, x_zero_point=zero_point, requantize=q, groups=groups)
            constants = [kit.fixed(a) for a in (weight, *tables)]
            kit.check(op, x, *constants, zero_point=zero_point)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 64), (2, 5, 33), (65,)], ids=str)
@pytest.mark.parametrize("outputs", [1, 10, 16, 33])
def test_dense_layers(kit: Any, shape: tuple[int, ...], outputs: int) -> None:
    weight = np.maximum(kit.i8(outputs, shape[-1], seed=1), -127)
    for form in kit.some(FORMS, outputs + len(shape)):
        q, tables = epilogue(form, outputs, shape[-1])
        op = partial(QDense, x_zero_point=9, requantize=q)
        kit.check(op, kit.i8(*shape), *map(kit.fixed, (weight, *tables)), zero_point=9)


@pytest.mark.parametrize(
    ("inputs", "groups", "zero"),
    [
        (19, 1, -128),
        (32, 1, 127),
        (32, 1, 3),
        (20, 4, 127),
        (20, 4, 3),
        (19, 19, -128),
        (19, 19, 3),
    ],
    ids=str,
)
def test_weights_with_a_zero_point(kit: Any, inputs: int, groups: int, zero: int) -> None:
    """What is multiplied leaves i8: each channel has two parts of it, three beside -128."""
    outputs = {1: 33, 4: 12, 19: 19}[groups]
    kernel = (1, 1) if zero == 3 else (3, 2)
    weight = kit.i8(outputs, *kernel, inputs // groups, seed=1)
    q, tables = epilogue(Form.TFLITE, outputs, weight[0].size)
    op = partial(QConv2d, x_zero_point=-5, requantize=q, groups=groups, padding=(1, 0, 0, 1))
    zeros = np.full(outputs if zero == 127 else 1, zero, np.int8)
    zeros[1::2] = 0
    constants = map(kit.fixed, (weight, *tables, zeros))
    kit.check(op, kit.i8(1, 6, 7, inputs), *constants, zero_point=-5, borders=True)


@pytest.mark.parametrize(("outputs", "depth", "zero"), [(10, 64, -128), (33, 7, 12)], ids=str)
def test_dense_weights_with_a_zero_point(kit: Any, outputs: int, depth: int, zero: int) -> None:
    weight = kit.i8(outputs, depth, seed=1)
    q, tables = epilogue(Form.AWAY, outputs, depth)
    op = partial(QDense, x_zero_point=9, requantize=q)
    constants = map(kit.fixed, (weight, *tables, np.array([zero], np.int8)))
    kit.check(op, kit.i8(5, depth), *constants, zero_point=9)


@pytest.mark.parametrize("form", [Form.TFLITE, Form.AWAY, Form.ONNX], ids=lambda f: f.value)
def test_forms_that_saturate_to_the_limits_of_i8(kit: Any, form: Form) -> None:
    for outputs, groups, depth in ((33, 1, 19), (19, 19, 1)):
        weight = np.maximum(kit.i8(outputs, 3, 3, depth, seed=1), -127)
        _, tables = epilogue(form, outputs, weight[0].size)
        op = partial(QConv2d, x_zero_point=3, groups=groups, requantize=Requantize(form, -128))
        constants = map(kit.fixed, (weight, *tables))
        kit.check(op, kit.i8(1, 6, 7, 19), *constants, zero_point=3)


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
        kit.i8(draw(st.integers(1, 2)), *extents, inputs),
        outputs,
        kernel,
        form=draw(st.sampled_from(FORMS)),
        zero_point=draw(st.integers(-128, 127)),
        borders=draw(st.booleans()),
        isas=[draw(st.sampled_from(kit.isas))],
        groups=groups,
        **window,
    )


def test_float32_products_of_any_sum_and_factor(kit: Any) -> None:
    """Sums that float32 rounds, ties of both roundings, factors of all sizes: biases alone."""
    random = np.random.default_rng(24)
    outputs = 4096
    sums = random.integers(-(2**30), 2**30, outputs) >> random.integers(0, 30, outputs)
    results = random.integers(-600, 600, outputs) / 2.0  # half of them are ties
    factors = results / np.where(sums == 0, 1, sums) * random.choice([1, 1 + 2**-24, 2], outputs)
    factors[::16] = random.choice([0.5, 2.0**-20, 1e-40, 3e30, 2.0**-149], outputs // 16)
    tables = [sums.astype(np.int32), np.abs(factors).astype(np.float32).view(np.int32)]
    weight = np.zeros((outputs, 1), np.int8)
    constants = [kit.fixed(a) for a in (weight, *tables, np.zeros(outputs, np.int32))]
    for q in (Requantize(Form.ONNX, 0), Requantize(Form.ONNX, -17, -100, 90)):
        op = partial(QDense, x_zero_point=0, requantize=q)
        kit.check(op, kit.i8(2, 1), *constants, zero_point=0)
