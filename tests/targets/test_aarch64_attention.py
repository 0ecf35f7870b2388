"""Products of activations and softmaxes on AArch64, in an emulator, give the same bits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qcomp.errors import TargetError
from qcomp.ir.ops import QMatMul, QSoftmax
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tables import exp_table
from qcomp.targets.cpu.arm.softmax import LookedUpRows
from qcomp.targets.cpu.machine import Isa
from tests.targets.aarch64 import each_set, expect_exact

# Rows, depth, columns, and axes before these of each operand.
PRODUCTS: list[tuple[int, int, int, tuple[int, ...], tuple[int, ...]]] = [
    (4, 16, 16, (), ()),
    (5, 1, 17, (2,), (2,)),
    (7, 35, 33, (3,), ()),
    (9, 67, 40, (2, 3), (3,)),
    (3, 20, 16, (), ()),
    (6, 18, 15, (), ()),
    (4, 2100, 16, (), ()),
]


@each_set
def test_products_of_activations_of_every_size(
    kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    """Of all zero points, scaled in 32 bits and in 64."""
    found: dict[str, tuple[Any, list[Any]]] = {}
    zero_points = [(0, 0), (-128, 0), (-7, 127), (127, -128)]
    scales = [(2**30 + 5, 39), (2**31 - 1, 31), (3, 9)]
    for n, (rows, depth, columns, left, right) in enumerate(PRODUCTS):
        a, b = kit.i8(*left, rows, depth, seed=n), kit.i8(*right, depth, columns, seed=n)
        a.reshape(-1)[:depth] = -128
        for k in (n, n + 1):
            za, zb = zero_points[k % len(zero_points)]
            multiplier, shift = scales[k % len(scales)]
            op = partial(
                QMatMul,
                a_zero_point=za,
                b_zero_point=zb,
                multiplier=multiplier,
                shift=shift,
                requantize=Requantize(Form.WIDE, 7, -120, 127),
            )
            found[f"{rows} {depth} {columns} {k - n}"] = op, [a, b]
    expect_exact(kit, found, isa, arm_gcc, tmp_path)


@each_set
def test_softmaxes_of_rows_of_every_length(
    kit: Any, isa: Isa, arm_gcc: str, tmp_path: Path
) -> None:
    """Of one large element, of all alike, and of exponentials that are 1 up to some distance."""
    found: dict[str, tuple[Any, list[Any]]] = {}
    for n, length in enumerate((15, 16, 17, 31, 80, 200, 1003)):
        for k, scale in enumerate((1e-6, 3e-4, 0.02, 0.7)):
            x = kit.i8(4, length, seed=n)
            x[0], x[1] = -128, -100
            x[1, length // 2] = 127
            op = partial(QSoftmax, axis=1)
            found[f"{length} {k}"] = op, [x, kit.fixed(exp_table(scale))]
    expect_exact(kit, found, isa, arm_gcc, tmp_path)


def test_tables_that_are_no_exponentials_are_refused() -> None:
    rising = exp_table(0.1)[::-1]
    with pytest.raises(TargetError, match="expected to fall from 2"):
        LookedUpRows().data(rising)
