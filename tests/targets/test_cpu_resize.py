"""Generated resampling equals its meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from qcomp.ir.ops import Coordinates, NearestRounding, QResize2d, Resize2d, ResizeMode
from qcomp.quant.tflite_resize import bilinear_table

SIZES = [(14, 18), (3, 4), (21, 5), (1, 1), (7, 9)]


def resize(size: tuple[int, int], x: Any, mode: ResizeMode, **options: Any) -> partial[Resize2d]:
    scale = (size[0] / x.shape[1], size[1] / x.shape[2])
    return partial(Resize2d, size=size, scale=scale, mode=mode, **options)


@pytest.mark.parametrize("mode", list(ResizeMode), ids=lambda m: m.value)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resize_up_and_down(kit: Any, size: tuple[int, int], mode: ResizeMode) -> None:
    x = kit.i8(2, 7, 9, 20)
    kit.check(resize(size, x, mode), x, borders=True)


@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 31, 33, 64])
def test_resize_of_any_channel_count(kit: Any, channels: int) -> None:
    x = kit.i8(1, 5, 4, channels)
    for mode in ResizeMode:
        kit.check(resize((9, 8), x, mode), x)


@pytest.mark.parametrize("coordinates", list(Coordinates), ids=lambda c: c.value)
def test_resize_in_every_coordinate_mode(kit: Any, coordinates: Coordinates) -> None:
    x = kit.i8(1, 6, 5, 8)
    kit.check(resize((11, 13), x, ResizeMode.LINEAR, coordinates=coordinates), x)
    for rounding in NearestRounding:
        op = resize((11, 13), x, ResizeMode.NEAREST, coordinates=coordinates, rounding=rounding)
        kit.check(op, x, isas=kit.isas[:1])


@pytest.mark.parametrize(("aligned", "centers"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_means_of_neighbours(kit: Any, size: tuple[int, int], aligned: bool, centers: bool) -> None:
    tables = [
        kit.fixed(bilinear_table(extent, results, aligned=aligned, centers=centers))
        for extent, results in zip((7, 9), size, strict=True)
    ]
    kit.check(QResize2d, kit.i8(2, 7, 9, 20), *tables, borders=True)
    kit.check(QResize2d, kit.i16(1, 7, 9, 5), *tables, isas=kit.isas[:1])
