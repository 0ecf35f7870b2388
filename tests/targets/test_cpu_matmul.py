"""The generated product of two activations equals its meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.errors import TargetError
from qcomp.ir.ops import QMatMul
from qcomp.quant.fixed_point import Form, Requantize, multiplier_onnx
from qcomp.targets.cpu.lower.graph import lower_graph

FORMS = [Form.NARROW, Form.WIDE, Form.TFLITE, Form.ONNX]


def matmul(**changes: Any) -> partial[QMatMul]:
    options: dict[str, Any] = {
        "a_zero_point": -3,
        "b_zero_point": 100,
        "multiplier": 2**30 + 12345,
        "shift": 40,
        "requantize": Requantize(Form.WIDE, -5),
    }
    return partial(QMatMul, **{**options, **changes})


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65, 130])
def test_products_of_any_width(kit: Any, columns: int) -> None:
    kit.check(matmul(), kit.i8(5, 9), kit.i8(9, columns))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("depth", [1, 2, 3, 8, 33])
def test_products_of_any_height_and_depth(kit: Any, rows: int, depth: int) -> None:
    kit.check(matmul(), kit.i8(rows, depth), kit.i8(depth, 20))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3, 4, 5), (2, 3, 5, 6)),
        ((4, 5), (2, 3, 5, 6)),
        ((2, 1, 4, 5), (3, 5, 6)),
        ((3, 1, 2, 4, 5), (2, 1, 5, 6)),
    ],
    ids=str,
)
def test_leading_axes_broadcast(kit: Any, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    kit.check(matmul(), kit.i8(*a), kit.i8(*b), borders=True)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.value)
def test_products_in_every_form_at_the_extremes(kit: Any, form: Form) -> None:
    constants = {
        Form.NARROW: {"multiplier": 300, "shift": 10},
        Form.WIDE: {"multiplier": 2**30 + 1, "shift": 47},
        Form.TFLITE: {"multiplier": 2**30 + 1, "shift": -16},
        Form.ONNX: {"multiplier": multiplier_onnx(2.0**-17 * 1.1)[0], "shift": 0},
    }[form]
    op = matmul(a_zero_point=127, b_zero_point=-128, requantize=Requantize(form, 0), **constants)
    kit.check(op, kit.i8(6, 500), kit.i8(500, 18))
    kit.check(op, np.full((1, 500), -128, np.int8), np.full((500, 16), 127, np.int8))


def test_one_operand_may_be_constant(kit: Any) -> None:
    kit.check(matmul(), kit.i8(6, 10), kit.fixed(kit.i8(10, 12)))


def test_a_depth_that_could_leave_32_bits_is_refused(kit: Any) -> None:
    graph, _ = kit.one_op(matmul(), kit.i8(1, 40000), kit.i8(40000, 1))
    with pytest.raises(TargetError, match="sums may reach"):
        lower_graph(graph, kit.isas[0], "net")


@pytest.mark.sweep(30)
@given(data=st.data())
def test_random_products(kit: Any, data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 40)) for _ in range(3))
    zero_points = {
        name: data.draw(st.integers(-128, 127)) for name in ("a_zero_point", "b_zero_point")
    }
    isas = [data.draw(st.sampled_from(kit.isas))]
    kit.check(matmul(**zero_points), kit.i8(2, m, k), kit.i8(k, n), isas=isas)
