"""Generated reductions equal their meaning, over any axes and in any memory layout."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.errors import TargetError
from qcomp.ir.ops import ArgMax, QReduceExtreme, QReduceSum, Reduction
from qcomp.quant.fixed_point import Form, Requantize, multiplier_onnx, multiplier_wide
from qcomp.targets.cpu.emit.folds import KEY_BITS
from qcomp.targets.cpu.lower.graph import lower_graph

AXES = [(0,), (1,), (2,), (3,), (1, 2), (0, 3), (1, 3), (2, 3), (0, 1, 2), (0, 1, 2, 3), ()]
SIZES = [1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 129, 300]

FORMS = [Form.NARROW, Form.WIDE, Form.TFLITE, Form.ONNX]


def mean(axes: tuple[int, ...], count: int, **changes: Any) -> partial[QReduceSum]:
    multiplier, shift = multiplier_wide(1 / (1.3 * count))
    options: dict[str, Any] = {
        "axes": axes,
        "keepdims": True,
        "x_zero_point": -7,
        "multiplier": multiplier,
        "shift": shift,
        "requantize": Requantize(Form.WIDE, 11, -125, 120),
    }
    return partial(QReduceSum, **{**options, **changes})


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("keepdims", [True, False], ids=["kept", "dropped"])
def test_reductions_over_any_axes(kit: Any, axes: tuple[int, ...], keepdims: bool) -> None:
    x = kit.i8(2, 5, 9, 21)
    count = int(np.prod([x.shape[i] for i in axes]))
    kit.check(mean(axes, count, keepdims=keepdims), x, zero_point=-7, borders=True)
    extreme = partial(QReduceExtreme, kind=Reduction.MAX, axes=axes, keepdims=keepdims)
    kit.check(extreme, x, borders=True)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_vectors_and_groups(kit: Any, size: int) -> None:
    minimum = partial(QReduceExtreme, kind=Reduction.MIN, keepdims=False)
    for shape, axis in (((3, size), 1), ((size, 3), 0), ((5, size), 0)):
        x = kit.i8(*shape)
        kit.check(mean((axis,), shape[axis]), x)
        kit.check(partial(minimum, axes=(axis,)), x)
        kit.check(partial(ArgMax, axis=axis), x)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.value)
def test_sums_in_every_form(kit: Any, form: Form) -> None:
    constants = {
        Form.NARROW: {"multiplier": 300, "shift": 3},
        Form.WIDE: {"multiplier": 2**30 + 5, "shift": 37},
        Form.TFLITE: {"multiplier": 2**30 + 5, "shift": -5},
        Form.ONNX: {"multiplier": multiplier_onnx(1 / 24)[0], "shift": 0},
    }[form]
    for zero_point in (-128, 127):
        q = Requantize(form, 3)
        op = mean((1, 2), 1, x_zero_point=zero_point, requantize=q, **constants)
        kit.check(op, kit.i8(1, 7, 7, 50), zero_point=zero_point)


@pytest.mark.parametrize("value", [-128, 127])
def test_sums_of_extremes_do_not_wrap(kit: Any, value: int) -> None:
    for shape, axes in (((1, 64, 64, 40), (1, 2)), ((2, 5000), (1,))):
        x = np.full(shape, value, np.int8)
        kit.check(mean(axes, x.size // shape[0]), x)


def test_a_sum_that_could_leave_32_bits_is_refused(kit: Any) -> None:
    graph, _ = kit.one_op(mean((0,), 1), np.zeros(2**23 + 2**16, np.int8))
    with pytest.raises(TargetError, match="sums may reach"):
        lower_graph(graph, kit.isas[0], "net")


@pytest.mark.parametrize("last", [True, False], ids=["last", "first"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_argmax_along_any_axis_decides_ties(kit: Any, axis: int, last: bool) -> None:
    few_values = np.random.default_rng(0).choice(
        np.array([-128, 126, 127], np.int8), (2, 5, 37, 21)
    )
    for keepdims in (True, False):
        op = partial(ArgMax, axis=axis, last=last, keepdims=keepdims)
        kit.check(op, few_values, borders=True)
    constant = np.full((2, 5, 37, 21), -128, np.int8)
    kit.check(partial(ArgMax, axis=axis, last=last), constant)


def test_argmax_over_more_elements_than_its_keys_hold_is_refused(kit: Any) -> None:
    graph, _ = kit.one_op(partial(ArgMax, axis=0), np.zeros(2**KEY_BITS + 1, np.int8))
    with pytest.raises(TargetError, match="expected at most 8388608"):
        lower_graph(graph, kit.isas[0], "net")


@pytest.mark.sweep(30)
@given(data=st.data())
def test_random_reductions(kit: Any, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=5))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    x = kit.i8(*shape)
    isas = [data.draw(st.sampled_from(kit.isas))]
    keepdims = data.draw(st.booleans())
    ordered = tuple(sorted(axes))
    kit.check(mean(ordered, x.size, keepdims=keepdims), x, isas=isas)
    kind = data.draw(st.sampled_from([Reduction.MAX, Reduction.MIN]))
    kit.check(partial(QReduceExtreme, kind=kind, axes=ordered, keepdims=keepdims), x, isas=isas)
    axis = data.draw(st.integers(0, len(shape) - 1))
    kit.check(partial(ArgMax, axis=axis, keepdims=keepdims), x, isas=isas)
