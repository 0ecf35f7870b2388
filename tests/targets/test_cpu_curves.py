"""Interpolation by permutes of bytes: exact for tables at the ends of what the planes hold."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.ops import Interpolate
from qcomp.targets.cpu.x86.i16.curves import PermutedCurves

ENTRIES = 513
EVERY = np.arange(-(2**15), 2**15, dtype=np.int16)
RESULTS = [(16, 0, -(2**15), 2**15 - 1), (16, 0, -31000, 32000), (8, -5, -120, 121)]


def op_of(bits: int, zero_point: int, qmin: int, qmax: int) -> partial[Interpolate]:
    return partial(Interpolate, step_bits=7, zero_point=zero_point, qmin=qmin, qmax=qmax, bits=bits)


def check(kit: Any, result: tuple[int, ...], table: Any, x: Any = EVERY) -> None:
    """On the instruction sets that permute, where this machine has them."""
    isas = [isa for isa in kit.isas if isinstance(isa.machine.curves, PermutedCurves)]
    kit.check(op_of(*result), x, kit.fixed(table), zero_point=result[1], isas=isas or None)


def is_permuted(make: partial[Interpolate], table: Any) -> bool:
    curve = PermutedCurves().curve(make(inputs=("x", "table"), output="y"), table)
    return curve.lanes is not None


def ramp(slope: int, bends: Any) -> Any:
    """Entries around 0 at the middle, whose differences are slope + bends."""
    table = np.concatenate([[0], np.cumsum(slope + bends)])
    return (table - table[ENTRIES // 2]).astype(np.int32)


def zigzag(low: int, high: int) -> Any:
    return np.tile([low, high], ENTRIES // 2)


@pytest.mark.parametrize("result", RESULTS, ids=str)
@pytest.mark.parametrize(
    "table",
    [
        ramp(0, zigzag(-(2**15), 2**15 - 1)),
        ramp(20000, zigzag(-(2**15), 2**15 - 1)),
        ramp(-20000, zigzag(-(2**15), 2**15 - 1)),
        ramp(2**15 - 1, np.zeros(ENTRIES - 1, int)),
        np.full(ENTRIES, -(2**23), np.int32),
        np.full(ENTRIES, 2**23 - 2**17, np.int32),
    ],
    ids=["steep", "rising", "falling", "line", "lowest", "high"],
)
def test_extremes_of_planes(kit: Any, table: Any, result: tuple[int, ...]) -> None:
    make = op_of(*result)
    added = 64 + (result[1] << 7)
    assert is_permuted(make, table) or table.min() + added < -(2**23)
    check(kit, result, table)


@pytest.mark.parametrize(
    "table",
    [
        ramp(0, zigzag(-(2**15) - 1, 2**15)),
        np.tile([-(2**23), 2**23, 0], ENTRIES // 3).astype(np.int32),
        ramp(2**15, np.zeros(ENTRIES - 1, int)).clip(-(2**23), 2**23),
    ],
    ids=["steep", "steepest", "line"],
)
def test_what_planes_do_not_hold_is_gathered(kit: Any, table: Any) -> None:
    for result in RESULTS:
        assert not is_permuted(op_of(*result), table)
        check(kit, result, table)


def test_one_kernel_computes_curves_of_any_slope(kit: Any) -> None:
    """The slope is data: what is generated depends on the op alone."""
    make = op_of(*RESULTS[0])
    bends = np.random.default_rng(0).integers(-9000, 9000, (2, ENTRIES - 1))
    first, second = (ramp(slope, b) for slope, b in zip((30000, -31000), bends, strict=True))
    for table in (first, second):
        assert is_permuted(make, table)
        check(kit, RESULTS[0], table)


@given(
    seed=st.integers(0, 2**32),
    slope=st.integers(-(2**15), 2**15),
    spread=st.integers(1, 2**15),
    result=st.sampled_from(RESULTS),
    shape=st.lists(st.integers(1, 70), min_size=1, max_size=2),
)
def test_any_curve(
    kit: Any, seed: int, slope: int, spread: int, result: tuple[int, ...], shape: list[int]
) -> None:
    random = np.random.default_rng(seed)
    bends = random.integers(-spread, spread + 1, ENTRIES - 1)
    table = ramp(slope, bends).clip(-(2**23), 2**23)
    x = random.integers(-(2**15), 2**15, shape).astype(np.int16)
    check(kit, result, table, x)
