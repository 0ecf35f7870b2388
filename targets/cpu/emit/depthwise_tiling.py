"""Which tiles a depthwise layer is computed in, by a cost model in cycles.

The model counts a machine of four vector pipes, of which two multiply and two shuffle, and two
loads per cycle. It ranks the tiles of one layer.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from qcomp.targets.cpu.emit.depthwise_layout import (
    BLOCK,
    DepthwiseSpec,
    Taps,
    block_bytes,
    blocks_of,
    taps_of,
)
from qcomp.targets.cpu.isa import AVX512_VNNI, Dot, Isa

_VECTORS = 4  # of sums, for each vector of bytes
_UNPACKS = 8  # that interleave four vectors of bytes
_MOST_ROWS, _MOST_COLUMNS = 4, 8
_MOST_INSTRUCTIONS = 1500  # of a tile's code
_GOOD = 1.05  # of the least cost

# Instructions
_EPILOGUE = 14  # per vector of results
_CONSTANTS = 9  # per tile: loads of shifts, multipliers, zero point and limits
_TILE = 16  # per tile: addresses, constants, loop ends
_WIDEN = 3  # per vector of interleaved bytes or of weights, without VNNI
_WIDE_DOT = 4

_SPILL = 0.2  # cycles per source column and vector beyond the registers
_INSTRUCTION_BYTES = 6
_BYTES_PER_CYCLE = 8  # of code and weights, from the outer caches


@dataclass(frozen=True)
class Run:
    """`count` neighbouring pieces of channels, which share their code.

    A piece is what one vector of bytes holds: `channels` of each of `parts` pixels. The first one
    begins with `channel`, whose parameters are entry `position` of those of all blocks.
    """

    channel: int
    channels: int
    parts: int
    position: int
    count: int = 1


@functools.cache
def runs_of(channels: int, isa: Isa) -> tuple[Run, ...]:
    """All channels: whole vectors that lie side by side are one run."""
    size = 4 * isa.lanes
    runs: list[Run] = []
    for n, block in enumerate(blocks_of(channels)):
        for first in range(0, block.channels, size):
            part = min(block.width, size)
            channel, position = block.first + first, n * BLOCK + first
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
def plan_taps(spec: DepthwiseSpec) -> Taps:
    """The rows of a tile. They decide how weights lie, so all instruction sets share them."""
    isa = AVX512_VNNI
    runs = runs_of(spec.channels, isa)

    def cost(taps: Taps) -> float:
        weights = len(blocks_of(spec.channels)) * block_bytes(spec, taps) / _BYTES_PER_CYCLE
        tiles = (
            _run_cost(spec, taps, isa, run, tile_of(spec, taps, isa, run).columns) for run in runs
        )
        return weights + sum(tiles)

    rows = range(1, min(_MOST_ROWS, spec.rows.count) + 1)
    return min((taps_of(spec, r) for r in rows), key=cost)


@dataclass(frozen=True)
class Tile:
    """`columns` of each part of a vector; the kernel's columns are code, or a loop."""

    columns: int
    unrolled: bool


def tile_of(spec: DepthwiseSpec, taps: Taps, isa: Isa, run: Run) -> Tile:
    """Few columns where more gain little; a loop over those of a large kernel."""
    most = min(_MOST_COLUMNS, -(-spec.columns.count // run.parts))
    sizes = [_tile_cost(spec, taps, isa, run.parts, c)[1] for c in range(1, most + 1)]
    costs = [
        _run_cost(spec, taps, isa, run, columns)
        for columns, size in enumerate(sizes, start=1)
        if columns == 1 or size <= _MOST_INSTRUCTIONS
    ]
    good = [cost <= min(costs) * _GOOD for cost in costs]
    return Tile(1 + good.index(True), unrolled=sizes[0] <= _MOST_INSTRUCTIONS)


@functools.cache
def _run_cost(spec: DepthwiseSpec, taps: Taps, isa: Isa, run: Run, columns: int) -> float:
    """In cycles, with the code's way from memory."""
    across = -(-spec.columns.count // (columns * run.parts))
    tiles = spec.batch.count * -(-spec.rows.count // taps.rows) * across
    cycles, instructions = _tile_cost(spec, taps, isa, run.parts, columns)
    code = instructions * _INSTRUCTION_BYTES / _BYTES_PER_CYCLE
    return tiles * run.count * cycles + code


@functools.cache
def _tile_cost(
    spec: DepthwiseSpec, taps: Taps, isa: Isa, parts: int, columns: int
) -> tuple[float, int]:
    """Cycles and instructions."""
    width, variants = spec.kernel[1], len(taps.pairs)
    sources = source_columns(spec, columns)
    interleaved = len(sources) * len(taps.groups)
    rows_read = len(sources) * sum(map(len, taps.groups))
    dots = _VECTORS * variants * width * columns
    results = taps.rows * columns
    shared_by = max(map(len, sources.values()))  # results of a row that are open at once
    held = taps.rows * shared_by + variants * min(columns - 1, width) + 2
    if columns > shared_by:
        held += 1  # constants of the epilogue stay
    spilled = max(0, _VECTORS * held - isa.registers)
    shuffles = interleaved * _UNPACKS + rows_read * (parts - 1)
    constants = _VECTORS * results + _CONSTANTS
    loads = constants + rows_read * parts + (dots if spilled else _VECTORS * variants * width)
    other = results * (_EPILOGUE + 2 * (parts - 1)) + _TILE
    if isa.dot is not Dot.VNNI:  # bytes are widened first, weights for two columns at once
        widened = interleaved + variants * width * -(-columns // 2)
        dots, other = dots * _WIDE_DOT, other + widened * _VECTORS * _WIDEN
    instructions = shuffles + dots + other
    cycles = instructions / 4
    if isa.dot is Dot.VNNI:
        cycles = max(cycles, (shuffles + dots) / 3, loads / 2)
    return cycles + spilled * len(sources) * _SPILL, instructions


def source_columns(spec: DepthwiseSpec, columns: int) -> dict[int, list[tuple[int, int]]]:
    """Offsets of the source columns of a tile, and the (result column, kx) that each serves."""
    sources: dict[int, list[tuple[int, int]]] = {}
    for column in range(columns):
        for k in range(spec.kernel[1]):
            offset = column * spec.columns.src + k * spec.steps[1]
            sources.setdefault(offset, []).append((column, k))
    return dict(sorted(sources.items()))


def oriented(spec: DepthwiseSpec) -> DepthwiseSpec:
    """As it is or transposed, whichever needs fewer dot products for a result."""

    def dots(spec: DepthwiseSpec) -> float:
        taps = plan_taps(spec)
        return len(taps.pairs) * spec.kernel[1] / taps.rows

    return min(spec, spec.transposed(), key=dots)
