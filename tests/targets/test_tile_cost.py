"""AMX tiles are chosen where they were measured to be faster, and fit the registers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.isa import AMX_INT8, AVX512_VNNI
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.gemm import BY_FOURS, GemmSpec, flattened
from qcomp.targets.cpu.machine import GemmFamily, Isa
from qcomp.targets.cpu.x86.amx import TileGemms
from qcomp.targets.cpu.x86.tile_cost import cheapest_tiles, tile_shapes

# KERNELS.md, section 2, on a Sapphire Rapids: extent, kernel, stride, inputs, outputs and the
# GOPS of the best VNNI tile and of AMX (the middle, where it was measured several times).
MEASURED = [
    (112, 1, 1, 16, 96, 405, 271),
    (56, 1, 1, 144, 24, 560, 1290),
    (28, 1, 1, 192, 32, 818, 2700),
    (14, 1, 1, 384, 96, 897, 3290),
    (14, 1, 1, 96, 576, 798, 1540),
    (7, 1, 1, 960, 320, 875, 3600),
    (56, 1, 1, 64, 256, 706, 1335),
    (14, 1, 1, 1024, 256, 861, 3625),
    (56, 3, 1, 64, 64, 897, 3950),
    (28, 3, 1, 128, 128, 863, 3975),
    (14, 3, 1, 256, 256, 918, 3350),
    (7, 3, 1, 512, 512, 746, 2100),
    (112, 3, 2, 3, 32, 433, 327),
    (112, 7, 2, 3, 64, 734, 1060),
]


def layer(rows: int, columns: int, kernel: int, stride: int, inputs: int, outputs: int) -> GemmSpec:
    """A convolution whose source has a border, and its result none."""
    row = ((columns - 1) * stride + max(kernel, stride)) * inputs
    spec = GemmSpec(
        groups=Axis(1, 0, 0),
        batch=Axis(1, 0, 0),
        rows=Axis(rows, row * stride, columns * outputs),
        columns=Axis(columns, inputs * stride, outputs),
        segments=((kernel, row),) if kernel > 1 else (),
        length=kernel * inputs,
        channels=outputs,
        form=Form.NARROW,
        packing=BY_FOURS,
    )
    return flattened(spec) if kernel == 1 else spec


def measured_layer(measured: tuple[int, ...]) -> GemmSpec:
    extent, kernel, stride, inputs, outputs, *_ = measured
    return layer(extent, extent, kernel, stride, inputs, outputs)


def has_tiles(spec: GemmSpec, isa: Isa) -> bool:
    """Whether the cheapest kernel is of the family of tile registers."""

    def cost(family: GemmFamily) -> float:
        kernel = family.kernel(spec, isa)
        return kernel.cost if kernel is not None else math.inf

    return isinstance(min(isa.machine.gemms, key=cost), TileGemms)


def fit_the_second_cache(measured: tuple[int, ...]) -> bool:
    spec = measured_layer(measured)
    return spec.panels * spec.panel_bytes < 512 << 10


@pytest.mark.parametrize("measured", MEASURED, ids=str)
def test_the_cheaper_registers_are_those_that_were_measured_to_be_faster(measured: Any) -> None:
    *_, vnni, amx = measured
    assert abs(vnni - amx) > 0.1 * max(vnni, amx)
    assert has_tiles(measured_layer(measured), AMX_INT8) == (amx > vnni)


@pytest.mark.parametrize("measured", [*filter(fit_the_second_cache, MEASURED)], ids=str)
def test_predicted_speeds_are_near_the_measured_ones(measured: Any) -> None:
    """Within 30 % at 3.3 GHz; the model leaves out what weights from beyond the cache cost."""
    spec = measured_layer(measured)
    found = cheapest_tiles(spec)
    assert found is not None
    pixels = spec.rows.count * spec.columns.count
    products = pixels * spec.channels * spec.segment_count * spec.length
    assert 2 * products / found[0] * 3.3 == pytest.approx(measured[-1], rel=0.3)


@pytest.mark.parametrize("extents", [(1, 1), (1, 15), (3, 5)])
def test_tiles_need_sixteen_pixels(extents: tuple[int, int]) -> None:
    assert cheapest_tiles(layer(*extents, 1, 1, 512, 512)) is None


@pytest.mark.parametrize("inputs", [1, 16])
def test_short_sums_stay_in_vector_registers(inputs: int) -> None:
    assert not has_tiles(layer(56, 56, 1, 1, inputs, 96), AMX_INT8)


def test_machines_without_tiles_have_none() -> None:
    spec = layer(28, 28, 3, 1, 128, 128)
    assert has_tiles(spec, AMX_INT8)
    assert not has_tiles(spec, AVX512_VNNI)


@given(
    extents=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
def test_tiles_fit_the_registers_and_cover_the_layer(
    extents: tuple[int, int], kernel: int, stride: int, channels: tuple[int, int]
) -> None:
    spec = layer(*extents, kernel, stride, *channels)
    shapes = list(tile_shapes(spec))
    assert shapes
    for shape in shapes:
        inputs = (shape.high + shape.wide) * (2 if shape.rest else 1)
        assert shape.high * shape.wide + inputs <= 8
        assert 0 < shape.rows <= 16
        assert shape.rows <= shape.block <= shape.high * shape.rows
        assert shape.block * shape.blocks >= shape.line >= shape.block
        assert shape.chunk * shape.chunks + shape.rest == spec.steps
        assert max(shape.chunk, shape.rest) <= 16
        assert 0 < shape.together <= shape.block
