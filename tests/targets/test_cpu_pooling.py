"""Generated pooling equals its meaning; nothing outside the source is read."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.errors import TargetError
from qcomp.ir.ops import ArgMax, MaxPool2d, QAveragePool2d
from qcomp.quant.fixed_point import Form, Requantize, multiplier_wide
from qcomp.targets.cpu.kernels.window_axis import WindowAxis
from qcomp.targets.cpu.lower.graph import lower_graph

WINDOWS: list[dict[str, Any]] = [
    {"kernel": (2, 2), "stride": (2, 2)},
    {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)},
    {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0, 1, 1)},
    {"kernel": (3, 2), "stride": (1, 3), "padding": (2, 0, 1, 1), "dilation": (2, 3)},
    {"kernel": (5, 5), "padding": (2, 2, 2, 2)},
    {"kernel": (9, 11), "padding": (4, 5, 4, 5)},
    {"kernel": (1, 1), "stride": (2, 3)},
]
CHANNELS = [1, 3, 15, 16, 17, 31, 33, 64, 100]

FORMS = [Form.NARROW, Form.WIDE, Form.TFLITE, Form.ONNX]


def average(
    kernel: tuple[int, int], zero_point: int, form: Form = Form.WIDE, **window: Any
) -> tuple[partial[QAveragePool2d], np.ndarray[Any, Any]]:
    """The op and its multipliers, for a result in a scale 1.1 times the input's."""
    taps = kernel[0] * kernel[1]
    _, shift = multiplier_wide(1 / 1.1)
    multipliers = [0, *(round(2.0**shift / 1.1 / n) for n in range(1, taps + 1))]
    if form is Form.NARROW:
        shift = 2
        multipliers = [300, *(round(2.0**17 / 1.1 / n / 8) for n in range(1, taps + 1))]
    op = partial(
        QAveragePool2d,
        x_zero_point=zero_point,
        shift=shift,
        requantize=Requantize(form, -9, -120, 115),
        kernel=kernel,
        **window,
    )
    return op, np.array(multipliers, np.int32)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_max_pool_of_any_window(kit: Any, window: dict[str, Any]) -> None:
    kit.check(partial(MaxPool2d, **window), kit.i8(2, 11, 13, 19), borders=True)


@pytest.mark.parametrize("channels", CHANNELS)
def test_pools_of_any_channel_count(kit: Any, channels: int) -> None:
    window: dict[str, Any] = {"stride": (2, 2), "padding": (1, 1, 1, 1)}
    x = kit.i8(1, 7, 10, channels)
    kit.check(partial(MaxPool2d, kernel=(3, 3), **window), x)
    op, multipliers = average((3, 3), 5, **window)
    kit.check(op, x, kit.fixed(multipliers), zero_point=5)


@pytest.mark.parametrize("counts", [True, False], ids=["padding counts", "padding is left out"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_average_pool_of_any_window(kit: Any, window: dict[str, Any], counts: bool) -> None:
    op, multipliers = average(**window, zero_point=-77, count_include_pad=counts)
    kit.check(op, kit.i8(2, 11, 13, 19), kit.fixed(multipliers), zero_point=-77, borders=True)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.value)
def test_average_pool_in_every_form(kit: Any, form: Form) -> None:
    op, multipliers = average((3, 3), 127, form, padding=(1, 1, 1, 1))
    if form is Form.TFLITE:
        op = partial(op, shift=-3)
    elif form is Form.ONNX:
        op, counts = partial(op, shift=0), np.maximum(np.arange(len(multipliers)), 1)
        multipliers = (1 / 1.1 / counts).astype(np.float32).view(np.int32)
    kit.check(op, kit.i8(1, 8, 9, 21), kit.fixed(multipliers), zero_point=127)


@pytest.mark.parametrize("counts", [True, False], ids=["padding counts", "padding is left out"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_means_that_are_quotients(kit: Any, window: dict[str, Any], counts: bool) -> None:
    taps, zero_point = window["kernel"][0] * window["kernel"][1], -128 if counts else 0
    op = partial(
        QAveragePool2d, x_zero_point=zero_point, shift=0, count_include_pad=counts,
        requantize=Requantize(Form.QUOTIENT, zero_point, -120, 115), **window,
    )  # fmt: skip
    numbers = kit.fixed(np.arange(taps + 1, dtype=np.int32))
    kit.check(op, kit.i8(1, 11, 13, 19), numbers, zero_point=zero_point, borders=True)


def test_a_window_of_more_taps_than_16_bits_hold(kit: Any) -> None:
    op, multipliers = average((20, 20), 3, padding=(1, 1, 1, 1))
    for value in (-128, 127):
        x = np.full((1, 20, 20, 33), value, np.int8)
        kit.check(op, x, kit.fixed(multipliers), zero_point=3)


def test_windows_wholly_in_the_padding(kit: Any) -> None:
    x = kit.i8(1, 3, 3, 18)
    window: dict[str, Any] = {"stride": (1, 1), "padding": (4, 4, 4, 4)}
    kit.check(partial(MaxPool2d, kernel=(2, 2), **window), x)
    op, multipliers = average((2, 2), 3, **window)
    kit.check(op, x, kit.fixed(multipliers), zero_point=3)


def test_max_pool_of_indices_is_refused(kit: Any) -> None:
    graph, _ = kit.one_op(partial(ArgMax, axis=3), kit.i8(1, 4, 4, 4))
    graph.outputs["p"] = graph.add_op(MaxPool2d(inputs=("y",), output="p", kernel=(2, 2)))
    with pytest.raises(TargetError, match=r"max_pool2d of i32.*expected i8 or i16"):
        lower_graph(graph, kit.isas[0], "net")


axes = st.builds(
    WindowAxis,
    results=st.integers(1, 12),
    size=st.integers(1, 9),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    before=st.integers(0, 6),
    src=st.just(1),
    dst=st.just(1),
)


@given(axis=axes)
def test_taps_inside_are_those_that_hit_the_source(axis: WindowAxis) -> None:
    for position in range(axis.results):
        start = position * axis.stride - axis.before
        hits = [t for t in range(axis.kernel) if 0 <= start + t * axis.dilation < axis.size]
        assert list(axis.inside(position)) == hits
    first, last = axis.interior
    whole = [i for i in range(axis.results) if len(axis.inside(i)) == axis.kernel]
    assert list(range(first, last)) == whole


@pytest.mark.sweep(30)
@given(data=st.data())
def test_random_windows(kit: Any, data: st.DataObject) -> None:
    draw = data.draw
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    window = {
        "kernel": kernel,
        "stride": draw(pair),
        "dilation": draw(pair),
        "padding": draw(st.tuples(*[st.integers(0, 4)] * 4)),
    }
    extents = [
        draw(st.integers(max(1, (k - 1) * d + 1 - p), 14))
        for k, d, p in zip(kernel, window["dilation"], window["padding"][:2], strict=True)
    ]
    x = kit.i8(draw(st.integers(1, 2)), *extents, draw(st.integers(1, 40)))
    isas = [draw(st.sampled_from(kit.isas))]
    kit.check(partial(MaxPool2d, **window), x, isas=isas)
    op, multipliers = average(**window, zero_point=-128)
    kit.check(op, x, kit.fixed(multipliers), zero_point=-128, isas=isas)
