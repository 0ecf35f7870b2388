"""Which AMX tiles cover a layer, and what they cost, to choose between them and vector registers.

The costs are cycles as measured on a Sapphire Rapids; `tiling` counts in the same unit. There they
choose as the measurements do wherever these differ by more than a tenth (tests/targets/test_cpu_amx
holds the table): tiles pay from about 64 products per sum and 16 pixels. Other machines with AMX
have not been measured.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcomp.targets.cpu.kernels.codes import SCRATCH
from qcomp.targets.cpu.kernels.gemm import GemmSpec, Indices, Touched, tile_starts
from qcomp.targets.cpu.x86.tiles import REGISTERS, ROWS

_DOT = 16.0  # cycles of tdpbusd, whatever the shape
_LATENCY = 52.0  # of a dot: the next one of the same sums waits
_ROW = 0.5  # cycles to load a row of a tile
_FAR_ROW = 1.5  # of weights that do not stay in the first cache from block to block
_NEAR = 32 << 10  # bytes of weights that do
_VECTOR = 4.0  # cycles from a vector of sums in a tile to stored bytes
_SCATTERED = 1.5  # more of them where each pixel's place is computed
_BLOCK = 40.0  # cycles of a block: until the first dot, after the last one, addresses
_CALL = 250.0  # cycles to configure and release the tiles
_UNPACKED = 1.5  # to unpack a row of weights of few bits, once
_VECTORS = 16  # of sums that are requantized at once
_FEWEST = 16  # pixels: with less, nothing has been measured, and rows of the tiles stay empty


@dataclass(frozen=True)
class TileShape:
    """Blocks of positions times panels, in tiles of registers.

    A line is a row of pixels or, `flat`, a whole image: its rows are `pitch` positions apart, of
    which the last ones are no pixels; what is computed there is not stored. A block is `block`
    neighbouring positions of a line by `wide` panels of channels, its positions covered by `high`
    tiles (the last one overlaps the one before). K is cut into `chunks` of `chunk` groups of four
    in each segment and, in tiles of their own, `rest` more.
    """

    flat: bool
    pitch: int
    line: int  # positions
    block: int
    high: int
    wide: int
    chunk: int
    chunks: int
    rest: int
    together: int  # pixels of each block that are requantized at once

    @property
    def rows(self) -> int:
        """Positions of one tile."""
        return -(-self.block // self.high)

    @property
    def blocks(self) -> int:
        """Blocks of a line; the last one is moved back to end with it."""
        return -(-self.line // self.block)


def lines(spec: GemmSpec, shape: TileShape) -> int:
    return spec.batch.count * (1 if shape.flat else spec.rows.count)


@functools.cache
def cheapest_tiles(spec: GemmSpec) -> tuple[float, TileShape] | None:
    """The cycles and tiles of a layer, None where tiles are not for it."""
    few = spec.batch.count * spec.rows.count * spec.columns.count < _FEWEST
    if few or spec.joined or spec.mixed[0] > 1:
        return None
    return min(
        ((tile_cost(spec, shape), shape) for shape in tile_shapes(spec)),
        key=lambda found: found[0],
        default=None,
    )


def tile_cost(spec: GemmSpec, shape: TileShape) -> float:
    """Cycles of all groups and images."""
    blocks = spec.groups.count * lines(spec, shape) * shape.blocks
    pixels = shape.block * (spec.rows.count * spec.columns.count / shape.line if shape.flat else 1)
    whole, rest = divmod(spec.panels, shape.wide)
    cycles = sum(
        count * (_products(spec, shape, wide) + _BLOCK + pixels * wide * _vector(shape))
        for count, wide in ((whole, shape.wide), (1, rest))
        if count and wide
    )
    return _CALL + _unpacking(spec) + blocks * cycles


def _unpacking(spec: GemmSpec) -> float:
    """Cycles to unpack all weights."""
    packed = spec.weight_bits < 8
    return spec.groups.count * spec.panels * spec.all_steps * _UNPACKED if packed else 0.0


def unpacked_bytes(spec: GemmSpec, wide: int) -> int:
    """Of the weights of a block, as tiles are loaded from."""
    return wide * spec.all_steps * spec.row_bytes


def _vector(shape: TileShape) -> float:
    return _VECTOR + (_SCATTERED if shape.flat else 0)


def _products(spec: GemmSpec, shape: TileShape, wide: int) -> float:
    """Cycles of the dot products of one block, whose loads go on beside them."""
    weight_row = _ROW if unpacked_bytes(spec, wide) <= _NEAR else _FAR_ROW
    dots = shape.high * wide * _DOT
    cycles = 0.0
    for chunks, steps in ((shape.chunks, shape.chunk), (1 if shape.rest else 0, shape.rest)):
        loads = shape.high * shape.rows * _ROW + wide * steps * weight_row
        cycles += chunks * max(dots, loads, _LATENCY)
    return spec.segment_count * cycles


def tile_shapes(spec: GemmSpec) -> Iterator[TileShape]:
    """All that the registers hold."""
    for (flat, pitch, line), (chunk, chunks, rest) in itertools.product(
        _lines(spec), _chunks(spec.steps)
    ):
        for high, wide in itertools.product(range(1, 4), range(1, 1 + min(3, spec.panels))):
            inputs = (high + wide) * (2 if rest else 1)
            if high > line or high * wide + inputs > REGISTERS or not _fits(spec, wide):
                continue
            block = -(-line // -(-line // (high * ROWS)))
            together = _together(spec, flat, pitch, line, block, wide)
            if together:  # else there is a block without pixels
                yield TileShape(
                    flat, pitch, line, block, min(high, -(-block // ROWS)), wide,
                    chunk, chunks, rest, together,
                )  # fmt: skip


def _fits(spec: GemmSpec, wide: int) -> bool:
    """Whether the stack holds what is unpacked to it."""
    return spec.weight_bits == 8 or unpacked_bytes(spec, wide) <= SCRATCH


def _lines(spec: GemmSpec) -> Iterator[tuple[bool, int, int]]:
    """(flat, pitch, positions): rows and, where they lie evenly, images."""
    rows, columns = spec.rows, spec.columns
    yield False, columns.count, columns.count
    if rows.count > 1 and columns.src and rows.src % columns.src == 0:
        pitch = rows.src // columns.src
        if pitch >= columns.count:
            yield True, pitch, (rows.count - 1) * pitch + columns.count


def _chunks(steps: int) -> Iterator[tuple[int, int, int]]:
    """(chunk, chunks, rest) of the steps of a segment."""
    if steps <= ROWS:
        yield steps, 1, 0
        return
    if steps % ROWS:
        yield ROWS, steps // ROWS, steps % ROWS
    chunks = next(n for n in range(-(-steps // ROWS), steps + 1) if steps % n == 0)
    yield steps // chunks, chunks, 0


def _together(spec: GemmSpec, flat: bool, pitch: int, line: int, block: int, wide: int) -> int:
    """Pixels whose sums, loaded, leave room for constants; every block has that many."""
    most = _VECTORS // wide
    if not flat:
        return -(-block // -(-block // most))
    columns = spec.columns.count
    starts = (min(n * block, line - block) for n in range(-(-line // block)))
    return min(
        most,
        *(pixels_before(s + block, pitch, columns) - pixels_before(s, pitch, columns)
          for s in starts),
    )  # fmt: skip


def pixels_before(position: int, pitch: int, columns: int) -> int:
    """Pixels at lower positions of a flat line."""
    row, column = divmod(position, pitch)
    return row * columns + min(column, columns)


def touched(spec: GemmSpec, shape: TileShape, units: int) -> Touched:
    """What blocks read, and the pixels among it, which are written."""
    line, block = np.divmod(np.arange(units), shape.blocks)
    start = tile_starts(shape.line, shape.block)[block]
    end = start + shape.block - 1
    if not shape.flat:
        image, row = np.divmod(line, spec.rows.count)
        corners = (image, row, start), (image, row, end)
        return Touched(corners, corners)
    columns = spec.columns.count

    def before(position: Indices) -> Indices:
        row, column = np.divmod(position, shape.pitch)
        return row * columns + np.minimum(column, columns)

    read = [np.divmod(position, shape.pitch) for position in (start, end)]
    written = [np.divmod(pixel, columns) for pixel in (before(start), before(end + 1) - 1)]
    first, last = ((line, *at) for at in read)
    top, bottom = ((line, *at) for at in written)
    return Touched((first, last), (top, bottom))
