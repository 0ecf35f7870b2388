"""Generated depthwise convolutions equal their meaning, and their plans cover every layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.ir.ops import QConv2d
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.emit.depthwise import Depthwise
from qcomp.targets.cpu.isa import AARCH64, AVX2, AVX512_VNNI, SSE41
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.depthwise_layout import (
    BY_64,
    DepthwiseSpec,
    blocks_of,
    pack_depthwise,
    pack_tables,
    taps_of,
)
from qcomp.targets.cpu.kernels.depthwise_tiling import oriented, plan_taps, runs_of, tile_of
from qcomp.targets.cpu.machine import Isa
from tests.targets.test_cpu_linear import FORMS, check_conv, epilogue

COSTS = AVX512_VNNI.machine.depthwise.tiles

# Around the widths of blocks and vectors, and each kind of tail after whole blocks.
CHANNELS = [2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 48, 56, 63, 64, 65, 72, 80, 96, 127, 144]


def check(kit: Any, x: Any, kernel: tuple[int, int], **options: Any) -> None:
    channels = x.shape[3]
    check_conv(kit, x, channels, kernel, groups=channels, **options)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_of_any_channel_count(kit: Any, channels: int, stride: int) -> None:
    window: dict[str, Any] = {"stride": (stride, stride), "padding": (1, 1, 1, 1)}
    check(kit, kit.i8(1, 7, 9, channels), (3, 3), **window)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.value)
@pytest.mark.parametrize("zero_point", [-128, 127])
def test_every_form_on_every_instruction_set(
    kit: Any, isa: Isa, form: Form, zero_point: int
) -> None:
    x = kit.i8(2, 5, 6, 88)
    options: dict[str, Any] = {"form": form, "zero_point": zero_point, "isas": [isa]}
    check(kit, x, (3, 3), padding=(1, 1, 1, 1), **options)


@pytest.mark.parametrize(
    "window",
    [
        {"stride": (2, 2), "padding": (0, 0, 1, 1)},
        {"stride": (1, 3), "padding": (2, 1, 0, 3)},
        {"dilation": (2, 2), "padding": (2, 2, 2, 2)},
        {"dilation": (1, 3), "stride": (2, 1), "padding": (1, 4, 1, 2)},
        {"padding": (0, 2, 1, 0), "dilation": (2, 1), "stride": (1, 2)},
        {"dilation": (2, 2), "stride": (3, 2), "padding": (1, 1, 1, 1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (5, 5), (1, 4), (3, 1)], ids=str)
def test_depthwise_windows(kit: Any, kernel: tuple[int, int], window: dict[str, Any]) -> None:
    check(kit, kit.i8(2, 10, 12, 12), kernel, borders=True, **window)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7])
def test_kernels_of_any_size(kit: Any, isa: Isa, size: int) -> None:
    pad = (size // 2,) * 4
    check(kit, kit.i8(1, 9, 8, 24), (size, size), padding=pad, isas=[isa])


@pytest.mark.parametrize("window", [{}, {"dilation": (1, 2)}, {"stride": (2, 3)}], ids=str)
def test_large_kernels_are_loops(kit: Any, isa: Isa, window: dict[str, Any]) -> None:
    check(kit, kit.i8(1, 22, 47, 40), (21, 23), padding=(1, 2, 3, 4), isas=[isa], **window)
    costs = isa.machine.depthwise.tiles
    large, small = spec_of(40, (5, 9), (21, 23)), spec_of(40, (5, 9), (3, 3))
    for run in runs_of(large, isa.machine.vectors):
        assert not tile_of(large, plan_taps(large, costs), costs, run).unrolled
        assert tile_of(small, plan_taps(small, costs), costs, run).unrolled


@pytest.mark.parametrize("height", [1, 2, 3, 5])
@pytest.mark.parametrize("width", [1, 2, 3, 7, 13, 25])
@pytest.mark.parametrize("channels", [8, 32, 64])
def test_images_around_the_tiles(kit: Any, height: int, width: int, channels: int) -> None:
    check(kit, kit.i8(1, height, width, channels), (3, 3), padding=(1, 1, 1, 1))


@pytest.mark.parametrize("kernel", [(1, 9), (9, 1)], ids=str)
def test_one_dimensional_depthwise_convolutions(kit: Any, kernel: tuple[int, int]) -> None:
    shape = [20 if k > 1 else 1 for k in kernel]
    pad = [k // 2 for k in kernel]
    check(kit, kit.i8(2, *shape, 40), kernel, padding=(*pad, *pad))


@pytest.mark.parametrize("x_value", [-128, 127])
@pytest.mark.parametrize("w_value", [-128, 127])
def test_sums_of_extremes_are_exact(kit: Any, isa: Isa, x_value: int, w_value: int) -> None:
    x = np.full((1, 6, 6, 32), x_value, np.int8)
    weight = np.full((32, 5, 5, 1), w_value, np.int8)
    q, tables = epilogue(Form.WIDE, 32, 25)
    op = partial(QConv2d, x_zero_point=127, requantize=q, groups=32)
    kit.check(op, x, *map(kit.fixed, (weight, *tables)), zero_point=127, isas=[isa])


@pytest.mark.sweep(60)
@given(data=st.data())
def test_random_depthwise_convolutions(kit: Any, data: st.DataObject) -> None:
    draw = data.draw
    channels = draw(st.one_of(st.sampled_from(CHANNELS), st.integers(2, 200)))
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    window = {
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilation": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": draw(st.tuples(*[st.integers(0, 3)] * 4)),
    }
    extents = []
    for k, d, p in zip(kernel, window["dilation"], window["padding"][:2], strict=True):
        least = max(1, (k - 1) * d + 1 - p)
        extents.append(draw(st.integers(least, least + 12)))
    check(
        kit,
        kit.i8(draw(st.integers(1, 2)), *extents, channels),
        kernel,
        form=draw(st.sampled_from(FORMS)),
        zero_point=draw(st.integers(-128, 127)),
        borders=draw(st.booleans()),
        isas=[draw(st.sampled_from(kit.isas))],
        **window,
    )


def spec_of(
    channels: int, size: tuple[int, int], kernel: tuple[int, int], stride: int = 1
) -> DepthwiseSpec:
    row = 100 * channels
    return DepthwiseSpec(
        Axis(1, 0, 0),
        Axis(size[0], stride * row, size[1] * channels),
        Axis(size[1], stride * channels, channels),
        kernel,
        (row, channels),
        channels,
        Form.NARROW,
        BY_64,
    )


@given(channels=st.integers(1, 1100))
def test_blocks_cover_every_channel_and_none_beyond(channels: int) -> None:
    for block in blocks_of(channels, BY_64):
        assert 0 < block.channels <= block.width
        assert block.first + block.channels <= channels
    covered = {c for b in blocks_of(channels, BY_64) for c in range(b.first, b.first + b.channels)}
    assert covered == set(range(channels))


@pytest.mark.parametrize("isa", [SSE41, AVX2, AVX512_VNNI], ids=lambda isa: isa.name)
@given(channels=st.integers(1, 1100))
def test_runs_are_the_blocks_in_pieces_of_a_vector(isa: Isa, channels: int) -> None:
    size = 4 * isa.lanes
    covered = []
    for run in runs_of(spec_of(channels, (1, 1), (1, 1)), isa.machine.vectors):
        assert run.channels * run.parts <= size
        assert run.position % 16 == 0
        for n in range(run.count):
            first = run.channel + n * size
            covered += range(first, first + run.channels)
            block = blocks_of(channels, BY_64)[(run.position + n * size) // BY_64.block]
            assert block.first <= first < block.first + block.channels
    assert set(covered) == set(range(channels))


@pytest.mark.parametrize(
    ("channels", "widths"),
    [
        (8, [8]),
        (16, [16]),
        (24, [32]),
        (32, [32]),
        (40, [32, 8]),
        (64, [64]),
        (72, [64, 8]),
        (96, [64, 32]),
        (144, [64, 64, 16]),
        (152, [64, 64, 32]),
    ],
)
def test_a_tail_of_channels_is_a_narrow_block(channels: int, widths: list[int]) -> None:
    assert [block.width for block in blocks_of(channels, BY_64)] == widths


def starts_of(channels: int) -> list[tuple[int, int]]:
    """Of the runs in the narrowest vectors."""
    runs = runs_of(spec_of(channels, (1, 1), (1, 1)), SSE41.machine.vectors)
    return [(run.channel, run.count) for run in runs]


def test_narrow_vectors_share_the_code_of_a_block_that_is_moved_back() -> None:
    assert starts_of(120) == [(0, 4), (56, 4)]
    assert starts_of(96) == [(0, 6)]


def test_a_full_group_of_rows_serves_several_result_rows() -> None:
    spec = spec_of(64, (14, 14), (3, 3))
    taps = taps_of(spec, 2)
    row = spec.steps[0]
    assert taps.groups == ((0, row, 2 * row, 3 * row),)
    assert taps.taps == (((0, 1, 2, None), (None, 0, 1, 2)),)


def test_the_weights_of_a_block_lie_as_interleaving_leaves_the_channels() -> None:
    weight = np.arange(64 * 3, dtype=np.int8).reshape(64, 3, 1)
    taps = taps_of(spec_of(64, (1, 1), (3, 1)), 1)
    packed = pack_depthwise(weight, taps, BY_64).reshape(4, 4, 4, 4)  # vector, lane, channel, tap
    assert_array_equal(packed[1, 2, 3], [*weight[16 * 2 + 4 * 1 + 3, :, 0], 0])
    tables = pack_tables([np.arange(64, dtype=np.int32)], BY_64).reshape(4, 4, 4)
    assert tables[1, 2, 3] == 16 * 2 + 4 * 1 + 3


def test_narrow_blocks_repeat_their_channels_for_every_pixel_of_a_vector() -> None:
    tables = pack_tables([np.arange(16, dtype=np.int32)], BY_64).reshape(4, 4, 4)
    for lane in range(4):
        assert_array_equal(tables[:, lane].reshape(-1), np.arange(16))


def test_kernels_of_one_row_are_transposed_to_be_added_by_fours() -> None:
    flat = spec_of(64, (1, 50), (1, 8))
    assert oriented(flat, COSTS) == flat.transposed()
    assert oriented(flat.transposed(), COSTS) == flat.transposed()
    square = spec_of(64, (14, 14), (3, 3))
    assert oriented(square, COSTS) == square


def test_instruction_sets_share_their_tiles_of_rows_and_differ_in_columns() -> None:
    spec = spec_of(64, (14, 14), (3, 3))
    kernels = [Depthwise(spec, isa) for isa in (SSE41, AVX2, AVX512_VNNI, AARCH64)]
    assert {kernel.taps for kernel in kernels} == {plan_taps(spec, COSTS)}


def test_units_are_strips_of_rows_or_pieces_of_channels() -> None:
    wide = Depthwise(spec_of(32, (56, 56), (3, 3)), AVX512_VNNI)
    assert not wide.by_channels
    assert wide.units == wide.strips
    deep = Depthwise(spec_of(1024, (7, 7), (3, 3)), AVX512_VNNI)
    assert deep.by_channels
    assert deep.units == 16
