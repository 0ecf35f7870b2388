"""Layers with weights and 16 bits at either side, as data: their shapes and their constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.kernels.axis import Axis

PAIR = 2


@dataclass(frozen=True, eq=False)
class LayerConstants:
    """Weights [groups, channels, segments, length], depthwise ones [channels, kh, kw].

    The tables are by channel: bias (i32 or i64, without the zero point of the source), multiplier
    and shift of the form WIDE, and the ceiling where the spec has one; `requantize` has the zero
    point and the limits. `offset` is what memory adds to the values of the source.
    """

    weight: Array
    bias: Array
    multiplier: Array
    shift: Array
    ceiling: Array | None
    requantize: Requantize
    offset: int

    def stored_bias(self) -> NDArray[np.int32]:
        """The bias of sums over what memory has, value + offset: it takes the offset back."""
        sums = self.weight.reshape(len(self.bias), -1).sum(axis=1, dtype=np.int64)
        return np.asarray(self.bias - self.offset * sums, np.int32)


@dataclass(frozen=True)
class ProductSpec:
    """One shape class of kernels; axes and strides are in bytes, types by their bits."""

    groups: Axis
    batch: Axis
    rows: Axis
    columns: Axis
    segments: tuple[tuple[int, int], ...]  # nested (count, source stride) around the contiguous run
    length: int  # elements of the contiguous run
    channels: int  # outputs per group
    source: ir.IntType
    sums: ir.IntType  # i32 or i64
    result: ir.IntType
    ceiling: bool  # whether each channel has a largest result of its own
    shared: bool = False  # whether layers of other sizes have the same weights, packed alike

    @property
    def pairs(self) -> int:
        """Of one segment; an odd last element is multiplied by a weight of 0 too."""
        return -(-self.length // PAIR)

    @property
    def segment_count(self) -> int:
        count = 1
        for n, _ in self.segments:
            count *= n
        return count


@dataclass(frozen=True)
class TapSpec:
    """One shape class of kernels; axes and taps step in bytes."""

    batch: Axis
    rows: Axis
    columns: Axis
    kernel: tuple[int, int]
    taps: tuple[int, int]
    channels: int
    source: ir.IntType
    sums: ir.IntType  # i32 or i64
    result: ir.IntType
    ceiling: bool  # as in ProductSpec
