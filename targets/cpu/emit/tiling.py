"""Which register tiles cover a layer: pixels times vectors of output channels, by a cost model.

The model counts what a machine of two vector pipes and two loads per cycle spends; it is meant to
rank tiles of one layer, not to predict times.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from qcomp.targets.cpu.isa import Dot, Isa

PANEL = 16  # output channels whose weights lie together

_EPILOGUE = 4.0  # instructions per vector of sums
_TILE = 24.0  # instructions per tile: addresses, constants, loop ends
_LATENCY = 4.5  # cycles of a dot product that waits for the one before


@dataclass(frozen=True)
class Tiling:
    """A register tile of rows x columns pixels times `vectors` vectors of channels.

    `blocks` are the channel vectors of each block; all but the last have `vectors`.
    """

    rows: int
    columns: int
    blocks: tuple[int, ...]

    @property
    def pixels(self) -> int:
        return self.rows * self.columns


@functools.cache
def cheapest_tiling(
    rows: int, columns: int, channels: int, steps: int, isa: Isa, shuffles: float = 0.0
) -> tuple[float, Tiling]:
    """Cycles and tiles of rows x columns pixels; `steps` groups of k are added up for each.

    Activations may take `shuffles` for each pixel and group; the channels are one vector then.
    """
    vectors = -(-channels // isa.lanes)
    best: tuple[float, Tiling] | None = None
    panel = PANEL // isa.lanes  # blocks start where panels do
    widths = {vectors, *range(panel, vectors, panel)}
    for wide in sorted(w for w in widths if w <= max(panel, _most_vectors(isa))):
        blocks = vector_blocks(vectors, wide)
        for tile_rows, tile_columns in _pixel_tiles(
            rows, columns, _most_pixels(isa, wide, shuffles)
        ):
            tile = Tiling(tile_rows, tile_columns, blocks)
            tiles = -(-rows // tile_rows) * -(-columns // tile_columns)
            cost = tiles * sum(_tile_cost(tile.pixels, v, steps, isa, shuffles) for v in blocks)
            if best is None or cost < best[0]:
                best = cost, tile
    assert best is not None
    return best


def vector_blocks(vectors: int, wide: int) -> tuple[int, ...]:
    """Blocks of `wide` vectors and the rest."""
    whole, rest = divmod(vectors, wide)
    return (wide,) * whole + ((rest,) if rest else ())


def _most_vectors(isa: Isa) -> int:
    return isa.registers // 2 - 2 if isa.dot is Dot.VNNI else isa.registers // 4


def _most_pixels(isa: Isa, wide: int, shuffles: float) -> int:
    """The sums, one side of a group of k, an operand of the other and a product fit the registers.

    Operands take two registers where even and odd ones are apart. Shuffled ones stay in registers,
    since windows side by side share them.
    """
    if shuffles:
        return max(1, (isa.registers - 4) // (2 if isa.dot is Dot.VNNI else 3))
    if isa.dot is Dot.VNNI:
        return max(1, (isa.registers - min(wide, 4) - 1) // wide)
    fits = (p for p in range(1, isa.registers) if p * wide + 2 * min(p, wide) + 3 <= isa.registers)
    return max(fits, default=1)


def _pixel_tiles(rows: int, columns: int, most: int) -> list[tuple[int, int]]:
    """Balanced tiles of one row, and of several whole rows where these are short."""
    found = set()
    for count in range(1, columns + 1):
        wide = -(-columns // count)
        if wide <= most:
            found.add((1, wide))
            if count == 1:
                found |= {(r, wide) for r in range(2, min(rows, most // wide) + 1)}
            if len(found) > 8:
                break
    return sorted(found)


def _tile_cost(pixels: int, vectors: int, steps: int, isa: Isa, shuffles: float) -> float:
    sums, shuffled = pixels * vectors, pixels * shuffles
    if isa.dot is Dot.VNNI:
        step = max((sums + shuffled) / 2, (pixels + vectors) / 2, _LATENCY)
    else:  # two products and two sums each; operands are taken apart
        step = max((4 * sums + 2 * pixels + 3 * vectors + 2 * shuffled) / 4, _LATENCY)
    return steps * step + (sums * _EPILOGUE + _TILE) / 3
