"""Generated elementwise ops equal their meaning, for all values and all ways to broadcast."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.ops import (
    PairTable,
    QAdd,
    QAddRescaled,
    QAddWide,
    QBinary,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QPReluRescaled,
    Table,
)
from qcomp.quant.fixed_point import Form, Requantize, multiplier_onnx
from qcomp.quant.tflite_constants import add_rescaled_constants

SIZES = [1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 130, 257, 700]
ZERO_POINTS = [(-128, 127, 0), (127, -128, -128), (0, 0, 127), (5, -9, 3)]


def binary_ops(a: int = 5, b: int = -9, y: int = 3) -> dict[str, partial[QBinary]]:
    """One op of each kind, with the zero points given."""
    points = {"a_zero_point": a, "b_zero_point": b}
    clamp = {"zero_point": y, "qmin": -120, "qmax": 121}
    wide = {"a_multiplier": 2**21 + 77, "b_multiplier": -(2**21) + 5, "shift": 22}
    forms = {
        Form.NARROW: {"multiplier": 20011, "shift": 7},
        Form.WIDE: {"multiplier": 2**30 + 99, "shift": 38},
        Form.TFLITE: {"multiplier": 2**30 + 99, "shift": -7},
        Form.ONNX: {"multiplier": multiplier_onnx(0.006)[0], "shift": 0},
    }
    return {
        "add": partial(
            QAdd, a_multiplier=9000, b_multiplier=-7001, fraction_bits=5, **points, **clamp
        ),
        "add without fraction": partial(
            QAdd, a_multiplier=200, b_multiplier=300, fraction_bits=0, **points, **clamp
        ),
        "add beyond 16 bits": partial(
            QAdd, a_multiplier=32767, b_multiplier=32767, fraction_bits=9, **points, **clamp
        ),
        **{
            f"{name} rescaled": partial(
                QAddRescaled,
                b_sign=sign,
                requantize=Requantize(Form.TFLITE, y, -120, 121),
                **asdict(add_rescaled_constants(*scales)),
                **points,
            )
            for name, sign, scales in (
                ("add", 1, (0.013, 0.4, 0.3)),
                ("subtract", -1, (0.7, 0.02, 0.5)),
                ("enlarge", 1, (0.5, 0.5, 2.0**-12)),
            )
        },
        "add wide": partial(QAddWide, **wide, **points, **clamp),
        **{
            f"mul {form.value}": partial(
                QMul, requantize=Requantize(form, y, -120, 121), **constants, **points
            )
            for form, constants in forms.items()
        },
        **{
            f"mul wide by {multiplier} >> {shift}": partial(
                QMul,
                requantize=Requantize(Form.WIDE, y),
                multiplier=multiplier,
                shift=shift,
                **points,
            )
            for multiplier, shift in ((2**31 - 1, 30), (2**31 - 1, 31), (2**30, 62))
        },
        "div": partial(QDiv, multiplier=2**22 - 3, shift=16, **points, **clamp),
        "div by a bit": partial(QDiv, multiplier=7, shift=0, **points, **clamp),
        "minimum": partial(QMinimum, qmin=-100, qmax=100),
        "maximum": partial(QMaximum, qmin=-100, qmax=100),
    }


def all_pairs() -> tuple[Any, Any]:
    """Every value of a against every value of b."""
    values = np.arange(-128, 128, dtype=np.int8)
    a, b = np.meshgrid(values, values, indexing="ij")
    return a.copy(), b.copy()


@pytest.mark.parametrize("points", ZERO_POINTS, ids=str)
@pytest.mark.parametrize("name", binary_ops())
def test_all_pairs_of_values(kit: Any, name: str, points: tuple[int, int, int]) -> None:
    kit.check(binary_ops(*points)[name], *all_pairs())


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_vectors(kit: Any, size: int) -> None:
    for name in ("add", "add rescaled", "mul narrow", "mul wide", "div", "minimum"):
        kit.check(binary_ops()[name], kit.i8(size), kit.i8(size, seed=1))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 4, 5, 19), (19,)),
        ((2, 4, 5, 19), (1, 1, 1, 1)),
        ((2, 4, 5, 19), (2, 1, 1, 19)),
        ((2, 4, 5, 1), (2, 4, 5, 19)),
        ((1, 4, 1, 19), (2, 1, 5, 1)),
        ((5, 19), (2, 4, 1, 1)),
        ((2, 4, 5, 19), (2, 4, 5, 19)),
    ],
    ids=str,
)
def test_operands_broadcast(kit: Any, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = kit.i8(*a), kit.i8(*b, seed=1)
    for name in ("add", "mul wide"):
        op = binary_ops()[name]
        kit.check(op, x, y, borders=True)
        kit.check(op, x, kit.fixed(y))
        kit.check(op, kit.fixed(x), y)


def test_a_tensor_with_itself(kit: Any) -> None:
    graph, inputs = kit.one_op(binary_ops()["mul wide"], kit.i8(100), kit.i8(100))
    graph.outputs["square"] = graph.add_op(
        binary_ops()["mul wide"](inputs=("x0", "x0"), output="square")
    )
    graph.update_tensor(
        type(graph.tensor("y"))("square", graph.type("square"), qparams=graph.tensor("y").qparams)
    )
    kit.check_graph(graph, inputs)


@pytest.mark.parametrize("size", SIZES)
def test_tables(kit: Any, size: int) -> None:
    kit.check(Table, kit.i8(size), kit.fixed(kit.i8(256, seed=1)))


@pytest.mark.parametrize("shapes", [((700,), ()), ((2, 3, 5, 19), (19,)), ((3, 1), (2, 1, 17))])
def test_tables_of_pairs(kit: Any, shapes: tuple[tuple[int, ...], ...]) -> None:
    a, b = (kit.i8(*shape, seed=seed) for seed, shape in enumerate(shapes))
    table = kit.fixed(kit.i8(2**16, seed=2))
    kit.check(PairTable, a, b, table, borders=True)
    kit.check(PairTable, b, a, table)
    kit.check(PairTable, a, kit.fixed(b), table)


def test_a_table_of_all_values_between_bordered_tensors(kit: Any) -> None:
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 4, 16, 4)
    kit.check(Table, x, kit.fixed(kit.i8(256, seed=1)), borders=True)


@pytest.mark.parametrize("slope", [(), (1,), (19,), (4, 1, 19), (1, 5, 1)], ids=str)
def test_prelu_slopes_broadcast(kit: Any, slope: tuple[int, ...]) -> None:
    op = partial(
        QPRelu, x_zero_point=-3, positive_multiplier=2**22 - 1, shift=23, zero_point=9, qmin=-99
    )
    random = np.random.default_rng(0)
    negative = random.integers(-(2**22) + 1, 2**22, slope).astype(np.int32)
    kit.check(op, kit.i8(2, 4, 5, 19), kit.fixed(np.asarray(negative)), borders=True)


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
def test_prelu_of_all_values(kit: Any, zero_point: int) -> None:
    x, slopes = all_pairs()
    op = partial(
        QPRelu, x_zero_point=zero_point, positive_multiplier=-9000, shift=13, zero_point=zero_point
    )
    kit.check(op, x, kit.fixed(slopes[0].astype(np.int32) * 16384))


@pytest.mark.parametrize("zero_points", [(-128, -128), (3, -7), (127, 127)])
def test_prelu_with_products_of_all_values(kit: Any, zero_points: tuple[int, int]) -> None:
    x, slopes = all_pairs()
    op = partial(
        QPReluRescaled, x_zero_point=zero_points[0], slope_zero_point=zero_points[1],
        positive_multiplier=2**30 + 99, positive_shift=1, multiplier=2**31 - 1, shift=-8,
        requantize=Requantize(Form.TFLITE, -5, -120, 121),
    )  # fmt: skip
    kit.check(op, x, kit.fixed(slopes[0]), borders=True)


@pytest.mark.sweep(40)
@given(data=st.data())
def test_random_broadcasts(kit: Any, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    shapes = []
    for _ in range(2):
        kept = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
        own = [e if keep else 1 for e, keep in zip(shape, kept, strict=True)]
        shapes.append(own[data.draw(st.integers(0, len(shape) - 1)) :])
    name = data.draw(st.sampled_from(sorted(binary_ops())))
    operands = [kit.i8(*s, seed=n) for n, s in enumerate(shapes)]
    kit.check(binary_ops()[name], *operands, isas=[data.draw(st.sampled_from(kit.isas))])
