"""Generated elementwise ops with operands or results of 16 bits equal their meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.ops import (
    Interpolate,
    QAddWide,
    QBinary,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QRescale,
    Table,
)
from qcomp.quant.fixed_point import Form, Requantize

SIZES = [1, 2, 7, 15, 16, 17, 31, 33, 63, 65, 130]
# Bits of the operands and of the result; at least one of them is 16.
KINDS = [(16, 16, 16), (16, 16, 8), (8, 16, 16), (16, 8, 8), (8, 8, 16)]
ZERO = -5


def values(kit: Any, bits: int, *shape: int, seed: int = 0) -> Any:
    return (kit.i8 if bits == 8 else kit.i16)(*shape, seed=seed)


def clamp(bits: int) -> dict[str, int]:
    """Zero point and saturation of a result."""
    if bits == 8:
        return {"zero_point": ZERO, "qmin": -120, "qmax": 121}
    return {"zero_point": 0, "qmin": -32000, "qmax": 32767}


def requantize(bits: int) -> Requantize:
    return Requantize(Form.WIDE, **clamp(bits), bits=bits)


def binary_ops(kind: tuple[int, int, int]) -> dict[str, partial[QBinary]]:
    """One op of each kind whose results spread over the type."""
    a, b, y = kind
    points = {"a_zero_point": ZERO if a == 8 else 0, "b_zero_point": ZERO if b == 8 else 0}
    wider = max(a, b) - y
    fields = {**clamp(y), "bits": y, **points}
    return {
        "add": partial(
            QAddWide, a_multiplier=2**30 - 77, b_multiplier=-(2**30) + 5, shift=31 + wider, **fields
        ),
        "add without shift": partial(QAddWide, a_multiplier=3, b_multiplier=-7, shift=0, **fields),
        "add of the largest": partial(
            QAddWide, a_multiplier=2**31 - 1, b_multiplier=2**31 - 1, shift=62, **fields
        ),
        "mul": partial(
            QMul, multiplier=2**31 - 9, shift=30 + a + b - y, requantize=requantize(y), **points
        ),
        "mul by a bit": partial(QMul, multiplier=1, shift=1, requantize=requantize(y), **points),
        "div": partial(QDiv, multiplier=2**43 - 3, shift=32, **fields),
        "div by a bit": partial(QDiv, multiplier=7, shift=0, **fields),
    }


def check(kit: Any, op: Any, *operands: Any, **options: Any) -> None:
    kit.check(op, *operands, zero_point=ZERO, **options)


@pytest.mark.parametrize("name", binary_ops((16, 16, 16)))
def test_pairs_on_every_instruction_set(kit: Any, isa: Any, name: str) -> None:
    for kind in KINDS:
        a, b = values(kit, kind[0], 9, 37), values(kit, kind[1], 9, 37, seed=1)
        b[:3] = 0
        check(kit, binary_ops(kind)[name], a, b, isas=[isa])


@pytest.mark.parametrize("size", SIZES)
def test_any_number_of_elements(kit: Any, size: int) -> None:
    for n, name in enumerate(binary_ops((16, 16, 16))):
        kind = KINDS[(size + n) % len(KINDS)]
        a, b = values(kit, kind[0], size), values(kit, kind[1], size, seed=1)
        check(kit, binary_ops(kind)[name], a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 3, 4, 17), (17,)), ((2, 3, 4, 17), (3, 1, 1)), ((1, 5, 1), (4, 1, 6)), ((3, 7), ())],
    ids=str,
)
def test_broadcasting(kit: Any, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    for kind in KINDS:
        op = binary_ops(kind)["add"]
        x, c = values(kit, kind[0], *a), values(kit, kind[1], *b, seed=1)
        check(kit, op, x, c)
        check(kit, op, x, kit.fixed(c))


def test_between_tensors_with_a_border(kit: Any) -> None:
    for kind in KINDS:
        a, b = values(kit, kind[0], 2, 5, 6, 9), values(kit, kind[1], 2, 5, 6, 9, seed=1)
        check(kit, binary_ops(kind)["mul"], a, b, borders=True)


@pytest.mark.parametrize("op", [QMinimum, QMaximum])
@pytest.mark.parametrize("limits", [(-(2**15), 2**15 - 1), (-9000, 77)])
def test_extremes(kit: Any, op: type[QBinary], limits: tuple[int, int]) -> None:
    low, high = limits
    a = kit.i16(2, 5, 6, 9)
    for b in (kit.i16(2, 5, 6, 9, seed=1), kit.i16(9, seed=1)):
        check(kit, partial(op, qmin=low, qmax=high), a, b, borders=True)


@pytest.mark.parametrize("constants", [(2**30, 30), (2**31 - 1, 38), (5, 1), (2**31 - 1, 62)])
def test_rescaling(kit: Any, isa: Any, constants: tuple[int, int]) -> None:
    multiplier, shift = constants
    for x in (8, 16):
        for y in (8, 16):
            op = partial(
                QRescale, x_zero_point=ZERO if x == 8 else 0, multiplier=multiplier, shift=shift,
                requantize=requantize(y),
            )  # fmt: skip
            check(kit, op, values(kit, x, 3, 67), isas=[isa])


@pytest.mark.parametrize("step_bits", range(8))
@pytest.mark.parametrize("bits", [8, 16])
def test_interpolation_of_every_value(kit: Any, step_bits: int, bits: int) -> None:
    """Between entries that lie as far apart as they may."""
    random = np.random.default_rng(step_bits)
    table = random.integers(-(2**22), 2**22, (1 << (16 - step_bits)) + 1).astype(np.int32)
    table[:8] = [-(2**23), 2**23] * 4
    table[-2:] = 2**23, -(2**23)
    op = partial(Interpolate, step_bits=step_bits, **clamp(bits), bits=bits)
    x = np.arange(-(2**15), 2**15, dtype=np.int16)
    check(kit, op, x, kit.fixed(table))


@pytest.mark.parametrize("size", SIZES)
def test_unary_ops_of_any_number_of_elements(kit: Any, size: int) -> None:
    table = np.arange(-4096, 4097, 16).astype(np.int32) * 512
    for bits in (8, 16):
        op = partial(Interpolate, step_bits=7, **clamp(bits), bits=bits)
        check(kit, op, kit.i16(size), kit.fixed(table))
    check(kit, Table, kit.i8(size), kit.fixed(kit.i16(256, seed=1)))


def test_tables_of_results_of_16_bits(kit: Any, isa: Any) -> None:
    table = kit.fixed(kit.i16(256, seed=3))
    check(kit, Table, np.arange(-128, 128, dtype=np.int8), table, isas=[isa])
    check(kit, Table, kit.i8(1, 3, 4, 5), table, isas=[isa], borders=True)


@pytest.mark.few(1)
def test_slopes_by_sign(kit: Any, isa: Any) -> None:
    for x, y in ((16, 16), (16, 8), (8, 16)):
        for slope in ((9,), (1,), (3, 4, 9)):
            negative = np.random.default_rng(0).integers(-(2**31) + 1, 2**31 - 1, slope)
            op = partial(
                QPRelu, x_zero_point=ZERO if x == 8 else 0, positive_multiplier=2**31 - 9,
                shift=31 + x - y, **clamp(y), bits=y,
            )  # fmt: skip
            values_, slopes = values(kit, x, 2, 3, 4, 9), kit.fixed(negative.astype(np.int32))
            check(kit, op, values_, slopes, isas=[isa], borders=True)


@pytest.mark.sweep(40)
@given(data=st.data())
def test_random_pairs(kit: Any, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    name = data.draw(st.sampled_from(list(binary_ops(kind))))
    shape = data.draw(st.lists(st.integers(1, 9), max_size=4))
    other = [data.draw(st.sampled_from([n, 1])) for n in shape]
    a, b = values(kit, kind[0], *shape), values(kit, kind[1], *other, seed=1)
    isa = data.draw(st.sampled_from(kit.isas))
    check(kit, binary_ops(kind)[name], a, b, isas=[isa])
