"""Groups with few channels, taken together, equal their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.isa import AVX2, AVX512_VNNI
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.gemm import BY_FOURS, GemmSpec
from qcomp.targets.cpu.lower.grouping import groupings
from tests.targets.test_cpu_linear import FORMS, check_conv


@pytest.mark.parametrize("each", [1, 2, 3, 4, 5, 8, 12, 16, 20])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 8, 13])
def test_groups_of_few_channels(kit: Any, each: int, depth: int) -> None:
    for groups in kit.some((2, 6, 8), each + depth):
        x = kit.i8(1, 5, 7, groups * depth)
        check_conv(kit, x, groups * each, (3, 3), groups=groups, padding=(1, 1, 1, 1))
        check_conv(kit, x, groups * each, (1, 1), groups=groups, borders=True)


def test_groups_of_resnext_on_every_instruction_set(kit: Any, isa: Any) -> None:
    for channels, groups in ((128, 32), (64, 8)):
        x = kit.i8(2, 9, 31, channels)
        window = {"padding": (1, 1, 1, 1), "stride": (2, 1)}
        check_conv(kit, x, channels, (3, 3), groups=groups, isas=[isa], **window)


def test_extremes_of_neighbouring_groups_do_not_mix(kit: Any, isa: Any) -> None:
    x = np.tile(np.array([-128, 127], np.int8), (1, 4, 20, 8))
    check_conv(kit, x, 32, (3, 3), groups=16, isas=[isa], zero_point=127)


@pytest.mark.parametrize("isa", [AVX2, AVX512_VNNI], ids=lambda isa: isa.name)
def test_every_grouping_multiplies_the_same_numbers(isa: Any) -> None:
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (24, 2, 3, 2), np.int8)
    x = random.integers(0, 256, (2, 3, 24))  # what one window reads
    expected = np.einsum("goyxi,yxgi->go", weight.reshape(12, 2, 2, 3, 2), x.reshape(2, 3, 12, 2))
    found = list(groupings(weight, 12, isa))
    assert len({g.weight.shape[0] for g in found}) > 1
    for grouping in found:
        groups, channels, _, _, depth = grouping.weight.shape
        count, stride = grouping.mixed
        for n, c in np.ndindex(groups, channels):
            first = n * grouping.step + c * count // channels * stride
            total = (x[:, :, first : first + depth] * grouping.weight[n, c]).sum()
            assert_array_equal(total, expected.reshape(-1)[n * channels + c])


@pytest.mark.sweep(60)
@given(data=st.data())
def test_random_groups(kit: Any, data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.integers(2, 20))
    depth, each = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    window = {
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilation": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        "padding": draw(st.tuples(*[st.integers(0, 3)] * 4)),
    }
    check_conv(
        kit,
        kit.i8(
            draw(st.integers(1, 2)),
            draw(st.integers(7, 9)),
            draw(st.integers(7, 33)),
            groups * depth,
        ),
        groups * each,
        draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        form=draw(st.sampled_from(FORMS)),
        zero_point=draw(st.integers(-128, 127)),
        borders=draw(st.booleans()),
        isas=[draw(st.sampled_from(kit.isas))],
        groups=groups,
        **window,
    )


def test_shuffles_are_counted_once_for_windows_that_share_them() -> None:
    """Three taps a row at stride 1: 8 + 2 pixels instead of 3 * 8; none are shared at stride 3."""

    def spec(stride: int, mixed: tuple[int, int] = (4, 4)) -> GemmSpec:
        axis, columns = Axis(1, 0, 0), Axis(8, stride * 64, 16)
        taps = ((3, 1000), (3, 64))
        return GemmSpec(axis, axis, axis, columns, taps, 4, 16, Form.NARROW, BY_FOURS, mixed=mixed)

    assert spec(1).shuffles == 10 / 24
    assert spec(3).shuffles == 1
    assert spec(1, (1, 0)).shuffles == 0
