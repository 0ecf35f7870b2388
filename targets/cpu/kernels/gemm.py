"""What a convolution or dense layer is as a GEMM with implicit im2col, and how it is cut.

An NHWC convolution on an image with a border is a matrix product whose K axis is cut in segments:
KH (x KW) runs of contiguous bytes of the source. No copy, no bounds checks. Four neighbouring k are
a step; what a segment has beyond whole steps is filled up with weights of 0 or, if `joined`, makes
steps together with what other segments have. What computes it is a family of kernels of the machine
(`GemmFamily` of machine.py), which says how weights are packed. Those of few bits share bytes
(kernels/codes.py): a row of one step's bytes holds `row_steps` steps of a segment.

Meaning: qcomp.ir.evaluate.integer_linear (QConv2d, QDense); the bias holds -zero_point * sum(w)
and the rounding of the narrow form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.kernels.axis import Axis, flattened_axes
from qcomp.targets.cpu.kernels.codes import in_rows

T = TypeVar("T")  # register tiles of a family of kernels

GROUP = 4  # neighbouring k that are added at once
_MOST_ENDS = 32  # segments whose ends are joined, in straight code
_WORTH_JOINING = 16  # one of so many steps saved


@dataclass(frozen=True)
class Packing:
    """How weights lie: `group` neighbouring k of each of `panel` neighbouring channels are a step.

    A layer's weights are [panel][step][channel][k], steps of few bits in rows.
    """

    panel: int
    group: int

    @property
    def step_bytes(self) -> int:
        """Of one panel."""
        return self.panel * self.group


BY_FOURS = Packing(panel=16, group=4)  # vectors of x86 and ARM, and the tiles of AMX, as they lie


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
    packing: Packing
    ceiling: bool = False  # a fourth table of parameters: min(result, ceiling) per channel
    residual: bool = False  # a fifth pointer: an operand that is added to the result
    lookup: bool = False  # behind the header: a table that the result goes through
    clamped: bool = True  # False: the limits are those of i8
    rectified: bool = False  # the zero point is -128: results are unsigned bytes, less 128
    shifts_right: bool = False  # form tflite: the factors of all channels are below 1/2
    pairs: bool = False  # no weight is multiplied as -128: sums of two products fit 16 bits
    joined: bool = False  # the ends of segments that are no whole step make steps together
    weight_bits: int = 8  # 8, or 4, 2 or 1 as kernels/codes.py has them
    # Where `count` groups of a convolution share one panel: each channel reads the activations of
    # its own group, `stride` bytes after those of the group before. (1, 0): nothing is shared.
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
        group = self.packing.group
        return self.length // group if self.joined else -(-self.length // group)

    @property
    def end(self) -> int:
        """Bytes that each segment has for the joined steps."""
        return self.length % self.packing.group if self.joined else 0

    @property
    def ends(self) -> int:
        """How many segments have their ends in one step."""
        return self.packing.group // self.end if self.end else 0

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
        steps = range(0, self.length, self.packing.group)
        bytes_ = [p + s + k for p in pixels for s in segments for k in steps]
        return len(set(bytes_)) / len(bytes_)

    @property
    def panels(self) -> int:
        return -(-self.channels // self.packing.panel)

    @property
    def padded_channels(self) -> int:
        """Whole panels."""
        return self.panels * self.packing.panel

    @property
    def row_steps(self) -> int:
        """Steps that share a row."""
        return 8 // self.weight_bits

    @property
    def row_bytes(self) -> int:
        """Of one panel."""
        return self.packing.step_bytes

    @property
    def segment_bytes(self) -> int:
        """Packed weights of one segment of a panel, whole rows."""
        return -(-self.steps // self.row_steps) * self.row_bytes

    @property
    def inside_bytes(self) -> int:
        """Packed weights of a panel before those of the joined steps."""
        return self.segment_count * self.segment_bytes

    @property
    def panel_bytes(self) -> int:
        return self.inside_bytes + -(-self.joined_steps // self.row_steps) * self.row_bytes


@dataclass(frozen=True)
class GemmPlan(Generic[T]):
    """How a layer is cut: its register tiles, and which loop the units of work count."""

    tile: T
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


Indices = NDArray[np.int64]
Pixels = tuple[Indices, Indices, Indices]  # images, rows, columns


def tile_starts(extent: int, size: int) -> NDArray[np.int64]:
    """Where tiles start; the last one is moved back to end with the extent."""
    return np.minimum(np.arange(0, extent, size), extent - size)


@dataclass(frozen=True, eq=False)
class Touched:
    """The first and the last pixel that each unit reads, and those that it writes."""

    read: tuple[Pixels, Pixels]
    written: tuple[Pixels, Pixels]


def flattened(spec: GemmSpec) -> GemmSpec:
    """With rows and columns as one axis, where they can be."""
    rows, columns = flattened_axes(spec.rows, spec.columns)
    return replace(spec, rows=rows, columns=columns)


def with_joined_ends(spec: GemmSpec) -> GemmSpec | None:
    """The same layer in fewer steps, or None where joining the ends saves few.

    Not every instruction set joins them, and those that do not have packed weights of their own.
    """
    joined = replace(spec, joined=True)
    few = spec.segment_count <= _MOST_ENDS and spec.mixed[0] == 1
    saved = spec.all_steps - joined.all_steps
    return joined if few and saved * _WORTH_JOINING >= spec.all_steps else None


def pack_weights(weight: NDArray[np.int8], spec: GemmSpec) -> NDArray[np.int8]:
    """One group's [N, segments, length] to [panel][row][channel][group], zero-filled.

    The rows of the first segment come first, those of the joined steps last.
    """
    channels, segments, _ = weight.shape
    group, padded = spec.packing.group, spec.padded_channels
    inside = np.zeros((padded, segments, spec.steps * group), np.int8)
    inside[:channels, :, : spec.length] = weight[:, :, : spec.steps * group]
    together = np.zeros((padded, 1, spec.joined_steps * group), np.int8)
    if spec.joined:
        ends = np.zeros((channels, spec.joined_steps * spec.ends, spec.end), np.int8)
        ends[:, :segments] = weight[:, :, spec.steps * group :]
        side_by_side = ends.reshape(channels, spec.joined_steps, spec.ends * spec.end)
        steps = together.reshape(padded, spec.joined_steps, group)
        steps[:channels, :, : spec.ends * spec.end] = side_by_side
    return np.concatenate([_packed(a, spec) for a in (inside, together)], axis=1).reshape(-1)


def _packed(weight: NDArray[np.int8], spec: GemmSpec) -> NDArray[np.int8]:
    """Whole steps [padded N, runs, K] to [panel][bytes]; the steps of a run share rows."""
    _, runs, length = weight.shape
    panel, group = spec.packing.panel, spec.packing.group
    count = length // group
    apart = weight.reshape(spec.panels, panel, runs, count, group)
    steps = apart.transpose(0, 2, 3, 1, 4).reshape(spec.panels, runs, count, spec.row_bytes)
    rows = in_rows(steps, spec.weight_bits)
    return rows.reshape(spec.panels, rows[0].size)


def pack_channels(values: NDArray[np.int32], spec: GemmSpec) -> NDArray[np.int32]:
    """[N] parameters of one group, padded to whole panels."""
    padded = np.zeros(spec.padded_channels, np.int32)
    padded[: len(values)] = values
    return padded
