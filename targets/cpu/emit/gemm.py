"""What a convolution or dense layer is as a GEMM with implicit im2col, and how it is cut.

An NHWC convolution on an image with a border is a matrix product whose K axis is cut in segments:
KH (x KW) runs of contiguous bytes of the source. No copy, no bounds checks. `emit/gemm_vectors.py`
and `emit/amx.py` emit its kernels, which work on the same packed weights.

Meaning: qcomp.ir.evaluate.integer (QConv2d, QDense); the bias holds -zero_point * sum(w) and the
rounding of the narrow form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.emit.dot import GROUP
from qcomp.targets.cpu.emit.tile_cost import TileShape, cheapest_tiles, lines
from qcomp.targets.cpu.emit.tiling import PANEL, Tiling, cheapest_tiling, vector_blocks
from qcomp.targets.cpu.isa import Isa, Tiles


@dataclass(frozen=True)
class Axis:
    """A loop: how often, and how many bytes source, result and a second source move."""

    count: int
    src: int
    dst: int
    other: int = 0

    def continues(self, inner: Axis) -> bool:
        """Whether the step of this axis is where `inner` ends, so that both are one axis."""
        ends = (inner.src * inner.count, inner.dst * inner.count, inner.other * inner.count)
        return (self.src, self.dst, self.other) == ends

    def times(self, count: int) -> Axis:
        return replace(self, count=self.count * count)


@dataclass(frozen=True)
class GemmSpec:
    """One shape class: the key under which kernels are shared."""

    groups: Axis
    batch: Axis
    rows: Axis
    columns: Axis
    segments: tuple[tuple[int, int], ...]  # nested (count, source stride) around the contiguous run
    length: int  # bytes of the contiguous run
    channels: int  # outputs per group
    form: Form
    ceiling: bool = False  # a fourth table of parameters: min(result, ceiling) per channel
    residual: bool = False  # a fifth pointer: an operand that is added to the result
    lookup: bool = False  # behind the header: a table that the result goes through

    @property
    def tables(self) -> int:
        return 4 if self.ceiling else 3

    @property
    def segment_count(self) -> int:
        count = 1
        for n, _ in self.segments:
            count *= n
        return count

    @property
    def steps(self) -> int:
        """Groups of k in one segment."""
        return -(-self.length // GROUP)

    @property
    def panels(self) -> int:
        return -(-self.channels // PANEL)

    @property
    def panel_bytes(self) -> int:
        return self.segment_count * self.steps * PANEL * GROUP


@dataclass(frozen=True)
class GemmPlan:
    """How a layer is cut: its register tiles, and which loop the units of work count."""

    tile: Tiling | TileShape
    blocks: tuple[int, ...]  # vectors of each block of channels, all alike but the last
    pixels: int  # register tiles that cover the pixels of all images

    @property
    def by_channels(self) -> bool:
        """A unit is a block of channels, else the pixels of a register tile."""
        return self.pixels < len(self.blocks)

    @property
    def units(self) -> int:
        return max(self.pixels, len(self.blocks))


def flattened(spec: GemmSpec) -> GemmSpec:
    """Rows and columns as one axis where both tensors step evenly over the row ends."""
    rows, columns = spec.rows, spec.columns
    if rows.count == 1 or rows.continues(columns):
        return replace(spec, rows=Axis(1, 0, 0), columns=columns.times(rows.count))
    return spec


def plan_gemm(spec: GemmSpec, isa: Isa) -> GemmPlan:
    """The cheapest tiles. Threads share the pixels, or the channels where these are more."""
    steps = spec.segment_count * spec.steps
    cost, tile = cheapest_tiling(spec.rows.count, spec.columns.count, spec.channels, steps, isa)
    if isa.tiles is not Tiles.NONE:
        tiles = cheapest_tiles(spec)
        if tiles is not None and tiles[0] < cost * spec.groups.count * spec.batch.count:
            return tile_plan(spec, tiles[1], isa)
    return GemmPlan(tile, tile.blocks, pixel_tiles(spec, tile))


def tile_plan(spec: GemmSpec, shape: TileShape, isa: Isa) -> GemmPlan:
    """The plan for given AMX tiles."""
    blocks = vector_blocks(-(-spec.channels // isa.lanes), shape.wide * PANEL // isa.lanes)
    return GemmPlan(shape, blocks, lines(spec, shape) * shape.blocks)


def pack_weights(weight: NDArray[np.int8], spec: GemmSpec) -> NDArray[np.int8]:
    """One group's [N, segments, length] to [panel][segment][step][16 channels][4], zero-filled."""
    channels, segments, length = weight.shape
    padded = np.zeros((spec.panels * PANEL, segments, spec.steps * GROUP), np.int8)
    padded[:channels, :, :length] = weight
    shaped = padded.reshape(spec.panels, PANEL, segments, spec.steps, GROUP)
    return np.ascontiguousarray(shaped.transpose(0, 2, 3, 1, 4)).reshape(-1)


def pack_channels(values: NDArray[np.int32], spec: GemmSpec) -> NDArray[np.int32]:
    """[N] parameters of one group, padded to whole panels."""
    padded = np.zeros(spec.panels * PANEL, np.int32)
    padded[: len(values)] = values
    return padded


def pixel_tiles(spec: GemmSpec, tile: Tiling) -> int:
    rows, columns = -(-spec.rows.count // tile.rows), -(-spec.columns.count // tile.columns)
    return spec.batch.count * rows * columns
