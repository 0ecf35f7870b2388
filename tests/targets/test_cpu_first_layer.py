"""Segments that are no whole steps: their ends, joined, give the same sums in fewer products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.gemm import BY_FOURS, GemmSpec, pack_weights, with_joined_ends
from tests.targets.test_cpu_linear import check_conv


def layer(segments: tuple[tuple[int, int], ...], length: int, channels: int = 5) -> GemmSpec:
    axis = Axis(1, 0, 0)
    return GemmSpec(axis, axis, axis, axis, segments, length, channels, Form.NARROW, BY_FOURS)


@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kernel", [(3, 3), (7, 7), (5, 5), (5, 2), (2, 1), (1, 3)], ids=str)
def test_first_layers(kit: Any, isa: Any, kernel: tuple[int, int], inputs: int) -> None:
    both = (8, 2, (1, 1)), (33, 1, (1, 2))
    for outputs, stride, dilation in kit.some(both, inputs + kernel[1]):
        window = {"stride": (stride, stride), "dilation": dilation, "padding": (3, 2, 3, 3)}
        check_conv(kit, kit.i8(1, 9, 12, inputs), outputs, kernel, isas=[isa], **window)


def test_three_channels_take_seven_steps() -> None:
    """27 products by fours; segment by segment they would be 9."""
    spec = layer(((3, 100),), 9)
    joined = with_joined_ends(spec)
    assert joined is not None
    assert (spec.all_steps, joined.all_steps) == (9, 7)


def test_ends_that_save_little_stay() -> None:
    assert with_joined_ends(layer(((3, 100),), 12)) is None
    assert with_joined_ends(layer(((3, 100),), 15)) is None  # three bytes do not share a step
    assert with_joined_ends(layer((), 9)) is None
    assert with_joined_ends(layer(((3, 100),), 210)) is None  # one step of 159
    assert with_joined_ends(replace(layer(((3, 100),), 9), mixed=(2, 4))) is None


@given(
    counts=st.lists(st.integers(2, 4), max_size=2),
    length=st.integers(1, 14),
    channels=st.sampled_from([1, 5, 16, 17]),
)
def test_packed_weights_hold_every_product_once(
    counts: list[int], length: int, channels: int
) -> None:
    """Walking the packed steps as kernels do reads what the weights say."""
    spec = layer(tuple((n, 1000 // 10**i) for i, n in enumerate(counts)), length, channels)
    spec = with_joined_ends(spec) or spec
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (channels, spec.segment_count, length), np.int8)
    x = random.integers(0, 256, 5000)
    packed = pack_weights(weight, spec).reshape(
        spec.panels, spec.all_steps, BY_FOURS.panel, BY_FOURS.group
    )
    runs = [x[spec.segment_offset(n) :] for n in range(spec.segment_count)]
    steps = [
        run[BY_FOURS.group * k : BY_FOURS.group * k + BY_FOURS.group]
        for run in runs
        for k in range(spec.steps)
    ]
    ends = [run[length - spec.end : length] for run in runs]
    for n in range(spec.joined_steps):
        step = np.concatenate(ends[n * spec.ends : (n + 1) * spec.ends])
        steps.append(np.pad(step, (0, BY_FOURS.group - len(step))))
    sums = np.einsum("psck,sk->pc", packed, np.array(steps)).reshape(-1)
    assert_array_equal(
        sums[:channels], sum(weight[:, n] @ runs[n][:length].T for n in range(spec.segment_count))
    )
    assert not sums[channels:].any()
