"""Which tiles a depthwise layer is computed in, by a cost model in cycles.

The model counts the instructions of a tile and the pipes that they share. It ranks the tiles of one
layer.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from qcomp.targets.cpu.kernels.depthwise_layout import (
    DepthwiseSpec,
    Taps,
    block_bytes,
    blocks_of,
    taps_of,
)
from qcomp.targets.cpu.vectors import Vectors

_VECTORS = 4  # of sums, for each vector of bytes
_UNPACKS = 8  # that interleave four vectors of bytes
_MOST_ROWS, _MOST_COLUMNS = 4, 8
_MOST_INSTRUCTIONS = 1500  # of a tile's code
_GOOD = 1.05  # of the least cost


@dataclass(frozen=True)
class DepthwiseCosts:
    """A core that computes depthwise tiles: instructions, and how many start in a cycle."""

    vectors: Vectors
    dot: int  # instructions of a dot product
    widen: int  # per vector of interleaved bytes, or of weights for two columns at once
    epilogue: int  # per vector of results
    constants: int  # per tile: loads of shifts, multipliers, zero point and limits
    tile: int  # per tile: addresses, constants, loop ends
    per_cycle: float  # of all instructions
    dots_per_cycle: float  # of dot products and shuffles together
    loads_per_cycle: float
    kept: int  # registers that hold constants of the epilogue over all tiles
    carried: int  # registers that interleaved columns of the source stay in for the next tile
    spill: float  # cycles per source column and vector beyond the registers
    instruction_bytes: int
    bytes_per_cycle: int  # of code and weights, from the outer caches


@dataclass(frozen=True)
class DepthwisePlanning:
    """By whose costs a machine plans.

    The rows of a tile decide how weights lie. Variants of one library share these, so they have one
    `layout` among them, the costs of one core; the columns are planned by a machine's own.
    """

    layout: DepthwiseCosts
    tiles: DepthwiseCosts


@dataclass(frozen=True)
class Run:
    """`count` neighbouring vectors of channels, emitted as one loop.

    Each vector of bytes covers `channels` channels of `parts` pixels. The first vector starts with
    channel `channel`, whose parameters are entry `position` of the table.
    """

    channel: int
    channels: int
    parts: int
    position: int
    count: int = 1


@functools.cache
def runs_of(spec: DepthwiseSpec, vectors: Vectors) -> tuple[Run, ...]:
    """All channels: whole vectors that lie side by side are one run."""
    size = vectors.bytes
    runs: list[Run] = []
    for n, block in enumerate(blocks_of(spec.channels, spec.layout)):
        for first in range(0, block.channels, size):
            part = min(block.width, size)
            channel, position = block.first + first, n * spec.layout.block + first
            piece = Run(channel, min(part, block.channels - first), size // part, position)
            if runs and _follows(runs[-1], piece, size):
                runs[-1] = replace(runs[-1], count=runs[-1].count + 1)
            else:
                runs.append(piece)
    return tuple(runs)


def _follows(run: Run, piece: Run, size: int) -> bool:
    step = run.count * size
    expected = replace(run, channel=run.channel + step, position=run.position + step, count=1)
    return piece == expected and piece.channels == size


@functools.cache
def plan_taps(spec: DepthwiseSpec, costs: DepthwiseCosts) -> Taps:
    """The rows of a tile."""
    runs = runs_of(spec, costs.vectors)
    blocks = len(blocks_of(spec.channels, spec.layout))

    def cost(taps: Taps) -> float:
        weights = blocks * block_bytes(spec, taps) / costs.bytes_per_cycle
        tiles = (
            _run_cost(spec, taps, costs, run, tile_of(spec, taps, costs, run).columns)
            for run in runs
        )
        return weights + sum(tiles)

    rows = range(1, min(_MOST_ROWS, spec.rows.count) + 1)
    return min((taps_of(spec, r) for r in rows), key=cost)


@dataclass(frozen=True)
class Tile:
    """`columns` of each part of a vector; the kernel's columns are code, or a loop.

    The source columns at the offsets `carried` are those that the tile before has too. If the code
    of `turns` tiles is one trip of a loop, none of them moves from one register to another.
    """

    columns: int
    unrolled: bool
    carried: tuple[int, ...]
    turns: int


def tile_of(spec: DepthwiseSpec, taps: Taps, costs: DepthwiseCosts, run: Run) -> Tile:
    """Few columns where more gain little; a loop over those of a large kernel."""
    most = min(_MOST_COLUMNS, -(-spec.columns.count // run.parts))
    sizes = [_tile_cost(spec, taps, costs, run.parts, c)[1] for c in range(1, most + 1)]
    cycles = [
        _run_cost(spec, taps, costs, run, columns)
        for columns, size in enumerate(sizes, start=1)
        if columns == 1 or size <= _MOST_INSTRUCTIONS
    ]
    good = [each <= min(cycles) * _GOOD for each in cycles]
    columns = 1 + good.index(True)
    unrolled = sizes[0] <= _MOST_INSTRUCTIONS
    kept = carried_columns(spec, taps, costs, run.parts, columns) if unrolled else ()
    sources = len(source_columns(spec, columns))
    moves = len(kept) > 1 and sources == len(kept) + 1  # by one place
    return Tile(columns, unrolled, kept, turns=sources if moves else 1)


def carried_columns(
    spec: DepthwiseSpec, taps: Taps, costs: DepthwiseCosts, parts: int, columns: int
) -> tuple[int, ...]:
    """Offsets of the source columns that a tile and the one before share, if registers hold them.

    Tiles of one part only: others take what lies between.
    """
    if parts > 1 or spec.columns.count < 2 * columns:
        return ()
    sources, step = source_columns(spec, columns), columns * spec.columns.src
    shared = tuple(offset for offset in sources if offset + step in sources)
    registers = _VECTORS * len(taps.groups) * len(shared)
    return shared if registers <= costs.carried else ()


@functools.cache
def _run_cost(
    spec: DepthwiseSpec, taps: Taps, costs: DepthwiseCosts, run: Run, columns: int
) -> float:
    """In cycles, with the code's way from memory."""
    across = -(-spec.columns.count // (columns * run.parts))
    tiles = spec.batch.count * -(-spec.rows.count // taps.rows) * across
    cycles, instructions = _tile_cost(spec, taps, costs, run.parts, columns)
    code = instructions * costs.instruction_bytes / costs.bytes_per_cycle
    return tiles * run.count * cycles + code


@functools.cache
def _tile_cost(
    spec: DepthwiseSpec, taps: Taps, costs: DepthwiseCosts, parts: int, columns: int
) -> tuple[float, int]:
    """Cycles and instructions."""
    width, variants = spec.kernel[1], len(taps.pairs)
    sources = source_columns(spec, columns)
    carried = len(carried_columns(spec, taps, costs, parts, columns))
    new = len(sources) - carried
    interleaved = new * len(taps.groups)
    rows_read = new * sum(map(len, taps.groups))
    dots = _VECTORS * variants * width * columns
    results = taps.rows * columns
    shared_by = max(map(len, sources.values()))  # results of a row that are open at once
    held = taps.rows * shared_by + variants * min(columns - 1, width) + 2
    held += carried
    if columns > shared_by:
        held += 1  # constants of the epilogue stay
    spilled = max(0, _VECTORS * held + costs.kept - costs.vectors.count)
    shuffles = interleaved * _UNPACKS + rows_read * (parts - 1)
    constants = _VECTORS * results + costs.constants
    loads = constants + rows_read * parts + (dots if spilled else _VECTORS * variants * width)
    other = results * (costs.epilogue + 2 * (parts - 1)) + costs.tile
    widened = interleaved + variants * width * -(-columns // 2)
    dots, other = dots * costs.dot, other + widened * _VECTORS * costs.widen
    instructions = shuffles + dots + other
    cycles = max(
        instructions / costs.per_cycle,
        (shuffles + dots) / costs.dots_per_cycle,
        loads / costs.loads_per_cycle,
    )
    return cycles + spilled * len(sources) * costs.spill, instructions


def source_columns(spec: DepthwiseSpec, columns: int) -> dict[int, list[tuple[int, int]]]:
    """Offsets of the source columns of a tile, and the (result column, kx) that each serves."""
    sources: dict[int, list[tuple[int, int]]] = {}
    for column in range(columns):
        for k in range(spec.kernel[1]):
            offset = column * spec.columns.src + k * spec.steps[1]
            sources.setdefault(offset, []).append((column, k))
    return dict(sorted(sources.items()))


def oriented(spec: DepthwiseSpec, costs: DepthwiseCosts) -> DepthwiseSpec:
    """As it is or transposed, whichever needs fewer dot products for a result."""

    def dots(spec: DepthwiseSpec) -> float:
        taps = plan_taps(spec, costs)
        return len(taps.pairs) * spec.kernel[1] / taps.rows

    return min(spec, spec.transposed(), key=dots)
