"""Which bytes the units of a kernel touch, so that layers can be run a few units at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu.emit.depthwise import Depthwise
from qcomp.targets.cpu.emit.gemm import GemmPlan, GemmSpec
from qcomp.targets.cpu.emit.tile_cost import TileShape
from qcomp.targets.cpu.emit.tiling import Tiling
from qcomp.targets.cpu.program import Extent, Reach

Indices = NDArray[np.int64]
Pixel = tuple[Indices, Indices, Indices]  # image, row, column
Corners = tuple[Pixel, Pixel]  # first and last


def gemm_reach(spec: GemmSpec, plan: GemmPlan) -> Reach | None:
    """None where a unit is a block of channels: it reads the whole source."""
    if plan.by_channels:
        return None
    tile = plan.tile
    if isinstance(tile, TileShape):
        read, written = _positions(spec, tile, plan.pixels)
    else:
        read = written = _tiles(spec, tile)
    axes = (spec.batch, spec.rows, spec.columns)
    window = sum((count - 1) * stride for count, stride in spec.segments) + spec.length
    neighbours, step = spec.mixed
    window += (neighbours - 1) * step
    groups = spec.groups.count - 1
    return Reach(
        _extent([a.src for a in axes], read, groups * spec.groups.src + window),
        _extent([a.dst for a in axes], written, groups * spec.groups.dst + spec.channels),
    )


def depthwise_reach(kernel: Depthwise) -> Reach | None:
    """None where a unit is a piece of the channels."""
    if kernel.by_channels:
        return None
    spec, rows = kernel.spec, kernel.taps.rows
    down = _starts(spec.rows.count, rows)
    image, y = np.unravel_index(np.arange(kernel.strips), (spec.batch.count, len(down)))
    first = image, down[y], np.zeros_like(y)
    last = image, down[y] + rows - 1, np.full_like(y, spec.columns.count - 1)
    axes = (spec.batch, spec.rows, spec.columns)
    window = sum((n - 1) * step for n, step in zip(spec.kernel, spec.steps, strict=True))
    return Reach(
        _extent([a.src for a in axes], (first, last), window + spec.channels),
        _extent([a.dst for a in axes], (first, last), spec.channels),
    )


def _starts(extent: int, size: int) -> Indices:
    """Where tiles start; the last one is moved back to end with the extent."""
    return np.minimum(np.arange(0, extent, size), extent - size)


def _tiles(spec: GemmSpec, tile: Tiling) -> Corners:
    across = _starts(spec.columns.count, tile.columns)
    down = _starts(spec.rows.count, tile.rows)
    shape = (spec.batch.count, len(down), len(across))
    image, row, column = np.unravel_index(np.arange(np.prod(shape)), shape)
    y, x = down[row], across[column]
    return (image, y, x), (image, y + tile.rows - 1, x + tile.columns - 1)


def _positions(spec: GemmSpec, shape: TileShape, units: int) -> tuple[Corners, Corners]:
    """What blocks of AMX tiles read, and the pixels among it, which are written."""
    line, block = np.divmod(np.arange(units), shape.blocks)
    start = _starts(shape.line, shape.block)[block]
    end = start + shape.block - 1
    if not shape.flat:
        image, row = np.divmod(line, spec.rows.count)
        corners = (image, row, start), (image, row, end)
        return corners, corners
    columns = spec.columns.count

    def pixels_before(position: Indices) -> Indices:
        row, column = np.divmod(position, shape.pitch)
        return row * columns + np.minimum(column, columns)

    read = [np.divmod(position, shape.pitch) for position in (start, end)]
    written = [
        np.divmod(pixel, columns) for pixel in (pixels_before(start), pixels_before(end + 1) - 1)
    ]
    first, last = ((line, *at) for at in read)
    top, bottom = ((line, *at) for at in written)
    return (first, last), (top, bottom)


def _extent(strides: Sequence[int], corners: Corners, bytes_: int) -> Extent:
    begin, end = (
        sum((i * s for i, s in zip(at, strides, strict=True)), np.int64(0)) for at in corners
    )
    return Extent(np.asarray(begin), np.asarray(end) + bytes_)
