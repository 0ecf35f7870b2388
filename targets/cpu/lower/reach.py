"""Which bytes the units of a kernel touch, so that layers can be run a few units at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcomp.targets.cpu.emit.depthwise import Depthwise
from qcomp.targets.cpu.emit.depthwise_taps import DepthwiseTaps
from qcomp.targets.cpu.kernels.gemm import Pixels, tile_starts
from qcomp.targets.cpu.machine import GemmKernel
from qcomp.targets.cpu.program import Extent, Reach


def gemm_reach(kernel: GemmKernel) -> Reach | None:
    """None where a unit is a block of channels: it reads the whole source."""
    if kernel.by_channels:
        return None
    spec, touched = kernel.spec, kernel.touched()
    axes = (spec.batch, spec.rows, spec.columns)
    window = sum((count - 1) * stride for count, stride in spec.segments) + spec.length
    neighbours, step = spec.mixed
    window += (neighbours - 1) * step
    groups = spec.groups.count - 1
    return Reach(
        _extent([a.src for a in axes], touched.read, groups * spec.groups.src + window),
        _extent([a.dst for a in axes], touched.written, groups * spec.groups.dst + spec.channels),
    )


def depthwise_reach(kernel: Depthwise | DepthwiseTaps) -> Reach | None:
    """None where a unit is a piece of the channels."""
    if kernel.by_channels:
        return None
    spec, rows = kernel.spec, kernel.rows
    down = tile_starts(spec.rows.count, rows)
    image, y = np.unravel_index(np.arange(kernel.strips), (spec.batch.count, len(down)))
    first = image, down[y], np.zeros_like(y)
    last = image, down[y] + rows - 1, np.full_like(y, spec.columns.count - 1)
    axes = (spec.batch, spec.rows, spec.columns)
    window = sum((n - 1) * step for n, step in zip(spec.kernel, spec.steps, strict=True))
    return Reach(
        _extent([a.src for a in axes], (first, last), window + spec.channels),
        _extent([a.dst for a in axes], (first, last), spec.channels),
    )


def _extent(strides: Sequence[int], corners: tuple[Pixels, Pixels], bytes_: int) -> Extent:
    begin, end = (
        sum((i * s for i, s in zip(at, strides, strict=True)), np.int64(0)) for at in corners
    )
    return Extent(np.asarray(begin), np.asarray(end) + bytes_)
