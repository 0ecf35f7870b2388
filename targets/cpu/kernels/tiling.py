"""Which register tiles cover a layer: pixels times vectors of output channels, by a cost model.

The model counts what a core spends in each group of k; it is meant to rank tiles of one layer, not
to predict times.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from qcomp.targets.cpu.vectors import Vectors


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


@dataclass(frozen=True)
class Pipes:
    """Instructions that share some pipes, of which `per_cycle` start in a cycle.

    So many for each sum of a group of k, for each pixel, for each vector of weights and for each
    shuffled activation.
    """

    per_cycle: int
    sums: int = 0
    pixels: int = 0
    vectors: float = 0
    shuffled: int = 0

    def cycles(self, pixels: int, vectors: int, shuffled: float) -> float:
        work = self.sums * pixels * vectors + self.pixels * pixels + self.vectors * vectors
        return (work + self.shuffled * shuffled) / self.per_cycle


@dataclass(frozen=True)
class TileRegisters:
    """What a tile needs beside its sums, in registers.

    `pixel` for each pixel; `narrower` for each operand of the side that has fewer; one for each
    vector of weights up to `weights`; `spare` for the rest. A tile of shuffled activations, of one
    vector of channels, needs `shuffled` for each pixel, and four.
    """

    pixel: int
    narrower: int
    weights: int
    spare: int
    shuffled: int

    def of(self, pixels: int, wide: int) -> int:
        beside = self.pixel * pixels + self.narrower * min(pixels, wide) + min(wide, self.weights)
        return pixels * wide + beside + self.spare


@dataclass(frozen=True)
class GemmCosts:
    """A core that multiplies in vector registers, to rank tiles by."""

    vectors: Vectors
    most_vectors: int  # of a tile
    registers: TileRegisters
    pipes: tuple[Pipes, ...]
    latency: float  # cycles of a dot product that waits for the one before
    epilogue: float  # instructions per vector of sums, of which three start in a cycle
    tile: float  # instructions per tile: addresses, constants, loop ends
    far_weights: int  # bytes of weights that other layers drive out of the second level of caches
    scratch: int  # bytes of the stack that a block's weights may be unpacked to

    def unpacking(self, instructions: float) -> GemmCosts:
        """Where a vector of weights takes so many more, in the pipes that add up."""
        pipes = (replace(p, vectors=p.vectors + instructions) if p.sums else p for p in self.pipes)
        return replace(self, pipes=tuple(pipes))


@functools.cache
def cheapest_tiling(
    rows: int,
    columns: int,
    channels: int,
    steps: int,
    panel: int,
    costs: GemmCosts,
    shuffles: float = 0.0,
) -> tuple[float, Tiling]:
    """Cycles and tiles of rows x columns pixels; `steps` groups of k are added up for each.

    Weights lie in panels of `panel` channels. Activations may take `shuffles` for each pixel and
    group; the channels are one vector then.
    """
    lanes = costs.vectors.lanes
    vectors = -(-channels // lanes)
    best: tuple[float, Tiling] | None = None
    panel //= lanes  # blocks start where panels do
    widths = {vectors, *range(panel, vectors, panel)}
    for wide in sorted(w for w in widths if w <= max(panel, costs.most_vectors)):
        blocks = vector_blocks(vectors, wide)
        for tile_rows, tile_columns in _pixel_tiles(
            rows, columns, _most_pixels(costs, wide, shuffles)
        ):
            tile = Tiling(tile_rows, tile_columns, blocks)
            tiles = -(-rows // tile_rows) * -(-columns // tile_columns)
            cost = tiles * sum(_tile_cost(tile.pixels, v, steps, costs, shuffles) for v in blocks)
            if best is None or cost < best[0]:
                best = cost, tile
    assert best is not None
    return best


def vector_blocks(vectors: int, wide: int) -> tuple[int, ...]:
    """Blocks of `wide` vectors and the rest."""
    whole, rest = divmod(vectors, wide)
    return (wide,) * whole + ((rest,) if rest else ())


def _most_pixels(costs: GemmCosts, wide: int, shuffles: float) -> int:
    """Shuffled activations stay in registers, since windows side by side share them."""
    count = costs.vectors.count
    if shuffles:
        return max(1, (count - 4) // costs.registers.shuffled)
    fits = (p for p in range(1, count) if costs.registers.of(p, wide) <= count)
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


def _tile_cost(pixels: int, vectors: int, steps: int, costs: GemmCosts, shuffles: float) -> float:
    shuffled = pixels * shuffles
    step = max(*(p.cycles(pixels, vectors, shuffled) for p in costs.pipes), costs.latency)
    return steps * step + (pixels * vectors * costs.epilogue + costs.tile) / 3
