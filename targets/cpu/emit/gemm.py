"""What a convolution or dense layer is as a GEMM with implicit im2col, and how it is cut.

An NHWC convolution on an image with a border is a matrix product whose K axis is cut in segments:
KH (x KW) runs of contiguous bytes of the source. No copy, no bounds checks. Four neighbouring k are
a step; what a segment has beyond whole steps is filled up with weights of 0 or, if `joined`, makes
steps together with what other segments have. `emit/gemm_vectors.py` and `emit/amx.py` emit its
kernels, which work on the same packed weights.

Meaning: qcomp.ir.evaluate.integer (QConv2d, QDense); the bias holds -zero_point * sum(w) and the
rounding of the narrow form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.emit.dot import GROUP
from qcomp.targets.cpu.emit.tile_cost import TileShape, cheapest_tiles, lines, tile_cost
from qcomp.targets.cpu.emit.tiling import PANEL, Tiling, cheapest_tiling, vector_blocks
from qcomp.targets.cpu.isa import Isa, Tiles

_MOST_ENDS = 32  # segments whose ends are joined, in straight code
_WORTH_JOINING = 16  # one of so many steps saved


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
    joined: bool = False  # the ends of segments that are no whole step make steps together
    # (count, source stride) of neighbours that the channels belong to, each to one of them.
    mixed: tuple[int, int] = (1, 0)

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
        """Groups of k that lie in one segment."""
        return self.length // GROUP if self.joined else -(-self.length // GROUP)

    @property
    def end(self) -> int:
        """Bytes that each segment has for the joined steps."""
        return self.length % GROUP if self.joined else 0

    @property
    def ends(self) -> int:
        """How many segments have their ends in one step."""
        return GROUP // self.end if self.end else 0

    @property
    def joined_steps(self) -> int:
        return -(-self.segment_count // self.ends) if self.ends else 0

    @property
    def all_steps(self) -> int:
        return self.segment_count * self.steps + self.joined_steps

    def segment_offset(self, index: int) -> int:
        """Where a segment starts in the source, counted from the first one."""
        offset = 0
        for count, stride in reversed(self.segments):
            index, n = divmod(index, count)
            offset += n * stride
        return offset

    @property
    def shuffles(self) -> float:
        """Of mixed activations, for each pixel and step: windows side by side share some."""
        if self.mixed[0] == 1:
            return 0.0
        segments = [self.segment_offset(n) for n in range(self.segment_count)]
        pixels = [n * self.columns.src for n in range(min(self.columns.count, 8))]
        steps = range(0, self.length, GROUP)
        bytes_ = [p + s + k for p in pixels for s in segments for k in steps]
        return len(set(bytes_)) / len(bytes_)

    @property
    def panels(self) -> int:
        return -(-self.channels // PANEL)

    @property
    def panel_bytes(self) -> int:
        return self.all_steps * PANEL * GROUP


@dataclass(frozen=True)
class GemmPlan:
    """How a layer is cut: its register tiles, and which loop the units of work count."""

    tile: Tiling | TileShape
    blocks: tuple[int, ...]  # vectors of each block of channels, all alike but the last
    pixels: int  # register tiles that cover the pixels of all images
    cost: float  # cycles, by the model that chose

    @property
    def by_channels(self) -> bool:
        """A unit is a block of channels, else the pixels of a register tile."""
        return self.pixels < len(self.blocks)

    @property
    def units(self) -> int:
        return max(self.pixels, len(self.blocks))


def flattened(spec: GemmSpec) -> GemmSpec:
    """With rows and columns as one axis, where they can be."""
    rows, columns = flattened_axes(spec.rows, spec.columns)
    return replace(spec, rows=rows, columns=columns)


def flattened_axes(rows: Axis, columns: Axis) -> tuple[Axis, Axis]:
    """As one axis of columns where both tensors step evenly over the row ends."""
    if rows.count == 1 or rows.continues(columns):
        return Axis(1, 0, 0), columns.times(rows.count)
    return rows, columns


def with_joined_ends(spec: GemmSpec) -> GemmSpec | None:
    """The same layer in fewer steps, or None where joining the ends saves few.

    Not every instruction set joins them, and those that do not have packed weights of their own.
    """
    joined = replace(spec, joined=True)
    few = spec.segment_count <= _MOST_ENDS and spec.mixed[0] == 1
    saved = spec.all_steps - joined.all_steps
    return joined if few and saved * _WORTH_JOINING >= spec.all_steps else None


def plan_gemm(spec: GemmSpec, isa: Isa) -> GemmPlan:
    """The cheapest tiles. Threads share the pixels, or the channels where these are more."""
    plan = vector_plan(spec, isa)
    if isa.tiles is not Tiles.NONE:
        tiles = cheapest_tiles(spec)
        if tiles is not None and tiles[0] < plan.cost:
            return tile_plan(spec, tiles[1], isa)
    return plan


def vector_plan(spec: GemmSpec, isa: Isa) -> GemmPlan:
    """The cheapest tiles of vector registers."""
    rows, columns = spec.rows.count, spec.columns.count
    each, tile = cheapest_tiling(rows, columns, spec.channels, spec.all_steps, isa, spec.shuffles)
    cost = each * spec.groups.count * spec.batch.count
    return GemmPlan(tile, tile.blocks, pixel_tiles(spec, tile), cost)


def tile_plan(spec: GemmSpec, shape: TileShape, isa: Isa) -> GemmPlan:
    """The plan for given AMX tiles."""
    blocks = vector_blocks(-(-spec.channels // isa.lanes), shape.wide * PANEL // isa.lanes)
    pixels = lines(spec, shape) * shape.blocks
    return GemmPlan(shape, blocks, pixels, tile_cost(spec, shape))


def pack_weights(weight: NDArray[np.int8], spec: GemmSpec) -> NDArray[np.int8]:
    """One group's [N, segments, length] to [panel][step][16 channels][4], zero-filled.

    The steps of the first segment come first, the joined ones last.
    """
    channels, segments, _ = weight.shape
    inside = np.zeros((spec.panels * PANEL, segments, spec.steps * GROUP), np.int8)
    inside[:channels, :, : spec.length] = weight[:, :, : spec.steps * GROUP]
    together = np.zeros((spec.panels * PANEL, spec.joined_steps, GROUP), np.int8)
    if spec.joined:
        ends = np.zeros((channels, spec.joined_steps * spec.ends, spec.end), np.int8)
        ends[:, :segments] = weight[:, :, spec.steps * GROUP :]
        side_by_side = ends.reshape(channels, spec.joined_steps, spec.ends * spec.end)
        together[:channels, :, : spec.ends * spec.end] = side_by_side
    steps = [a.reshape(spec.panels, PANEL, -1, GROUP) for a in (inside, together)]
    return np.ascontiguousarray(np.concatenate(steps, axis=2).swapaxes(1, 2)).reshape(-1)


def pack_channels(values: NDArray[np.int32], spec: GemmSpec) -> NDArray[np.int32]:
    """[N] parameters of one group, padded to whole panels."""
    padded = np.zeros(spec.panels * PANEL, np.int32)
    padded[: len(values)] = values
    return padded


def pixel_tiles(spec: GemmSpec, tile: Tiling) -> int:
    rows, columns = -(-spec.rows.count // tile.rows), -(-spec.columns.count // tile.columns)
    return spec.batch.count * rows * columns
