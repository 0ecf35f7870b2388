"""Depthwise layers as data: which taps are added together, and how weights lie.

Source rows are taken four at a time: their bytes, interleaved, are the four taps of a dot product.
A tile of several result rows shares the interleaved bytes; each of its rows has weights of its own
for them, zero where the kernel has no tap. Channels come in blocks; the layout of a block is what
interleaving leaves, the same for every width of vectors: 64 channels, say, or several times the
channels of a narrow block, as [vector of 16][128-bit lane][4 channels].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.gemm import GROUP

LANE = 16  # bytes within which vectors are interleaved: the unpacks of x86, the zips of ARM


@dataclass(frozen=True)
class Blocks:
    """How the channels of a family are cut: `block` of them lie together.

    `costs` are what a block of a width takes, relative: narrow ones gather the pixels of a vector.
    """

    block: int
    costs: tuple[tuple[int, float], ...]
    code: float  # of a block's own code, in the same unit


# Costs as measured on an AMD EPYC with AVX-512.
BY_64 = Blocks(64, ((64, 1.0), (32, 0.6), (16, 0.35), (8, 0.27)), 0.06)


@dataclass(frozen=True)
class DepthwiseSpec:
    """One shape class of depthwise kernels."""

    batch: Axis
    rows: Axis
    columns: Axis
    kernel: tuple[int, int]
    steps: tuple[int, int]  # bytes from one row of taps to the next, and from one column
    channels: int
    form: Form
    layout: Blocks
    ceiling: bool = False  # as in GemmSpec, and so are the next
    lookup: bool = False
    clamped: bool = True
    rectified: bool = False
    shifts_right: bool = False
    pairs: bool = False

    @property
    def tables(self) -> int:
        return 4 if self.ceiling else 3

    def transposed(self) -> DepthwiseSpec:
        """Rows as columns: the same layer for the transposed kernel."""
        return replace(
            self,
            rows=self.columns,
            columns=self.rows,
            kernel=self.kernel[::-1],
            steps=self.steps[::-1],
        )


@dataclass(frozen=True)
class Taps:
    """What a tile of `rows` result rows reads of one source column.

    `groups` are the offsets of up to four source rows. `taps[group][row]` are the rows of the
    kernel that these are to a result row, None where they are none.
    """

    rows: int
    groups: tuple[tuple[int, ...], ...]
    taps: tuple[tuple[tuple[int | None, ...], ...], ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(group, row) of all groups of weights that are not zero, in the order they lie."""
        return [
            (g, r)
            for g, rows in enumerate(self.taps)
            for r, taps in enumerate(rows)
            if any(tap is not None for tap in taps)
        ]


def taps_of(spec: DepthwiseSpec, rows: int) -> Taps:
    needed = [
        {r * spec.rows.src + k * spec.steps[0]: k for k in range(spec.kernel[0])}
        for r in range(rows)
    ]
    offsets = sorted(set().union(*needed))
    groups = [tuple(offsets[i : i + GROUP]) for i in range(0, len(offsets), GROUP)]
    taps = (tuple(tuple(map(row.get, group)) for row in needed) for group in groups)
    return Taps(rows, tuple(groups), tuple(taps))


@dataclass(frozen=True)
class Block:
    """Channels [first, first + channels); `width` bytes of every pixel are read from `first`."""

    first: int
    width: int
    channels: int


def blocks_of(channels: int, layout: Blocks) -> tuple[Block, ...]:
    """Whole blocks, and the cheapest narrow ones for the rest."""
    return tuple(_blocks(channels, 0, layout))


def _blocks(channels: int, first: int, layout: Blocks) -> Iterator[Block]:
    while channels - first >= layout.block:
        yield Block(first, layout.block, layout.block)
        first += layout.block
    yield from _cover(channels, first, layout)


def _cover(channels: int, first: int, layout: Blocks) -> tuple[Block, ...]:
    """Of channels [first, channels), fewer than a block."""
    rest = channels - first
    if rest == 0:
        return ()
    covers, costs = [], dict(layout.costs)
    for width in costs:
        if width <= rest:
            covers.append((Block(first, width, width), *_cover(channels, first + width, layout)))
        elif width <= channels:  # moved back, over channels that another block has too
            covers.append((Block(channels - width, width, width),))
        else:
            covers.append((Block(first, width, rest),))
    return min(covers, key=lambda blocks: sum(costs[b.width] + layout.code for b in blocks))


def block_bytes(spec: DepthwiseSpec, taps: Taps) -> int:
    """Of the weights of one block."""
    return len(taps.pairs) * spec.kernel[1] * spec.layout.block * GROUP


def pack_depthwise(weight: Array, taps: Taps, layout: Blocks) -> NDArray[np.int8]:
    """[channel, kh, kw] to [block][pair of taps][kx][vector][lane][channel][4]."""
    none = np.zeros_like(weight[:, :1])
    by_row = np.concatenate([weight, none], axis=1).transpose(1, 2, 0)  # the last row is no tap
    groups = []
    for g, r in taps.pairs:
        rows = [len(by_row) - 1 if tap is None else tap for tap in taps.taps[g][r]]
        groups.append(by_row[rows + [-1] * (GROUP - len(rows))])
    packed = _in_blocks(np.stack(groups), layout)  # [block, pair, 4, kx, vector, lane, channel]
    return np.ascontiguousarray(packed.transpose(0, 1, 3, 4, 5, 6, 2), np.int8).reshape(-1)


def pack_tables(tables: Sequence[NDArray[np.int32]], layout: Blocks) -> NDArray[np.int32]:
    """[table, channel] to [table][block][vector][lane][channel]."""
    packed = _in_blocks(np.stack(tables), layout)
    return np.ascontiguousarray(packed.swapaxes(0, 1), np.int32).reshape(-1)


def _in_blocks(values: Array, layout: Blocks) -> Array:
    """[..., channel] to [block, ..., vector, lane, channel]."""
    *outer, channels = values.shape
    blocks, size = [], layout.block
    for block in blocks_of(channels, layout):
        part = np.zeros((*outer, block.width), values.dtype)
        part[..., : block.channels] = values[..., block.first : block.first + block.channels]
        whole = np.concatenate([part] * (size // block.width), axis=-1)
        shaped = whole.reshape(*outer, size // LANE, LANE // GROUP, GROUP)
        blocks.append(shaped.swapaxes(-3, -2))
    return np.stack(blocks)
