"""The eight tile registers of AMX: matrices of up to 16 rows of 64 bytes that are multiplied whole.

Intel SDM, volume 2, TDPBUSD: with c of [m][n] i32, a of [m][4 k] u8 and w of [k][4 n] i8 (four
neighbouring k of a column together), c += a * w. Shapes are configured once, in a kernel, for all
eight; so what an instruction does to the rest of a register cannot be seen.

The state belongs to the thread: a kernel that configures it must release it before it returns,
since the code around it, ours or the host's, expects none, and the system saves 8 KB more with it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    Carried,
    Value,
    at,
    broadcast,
    i64,
    load,
    loop,
    multiple,
    repeat,
    shuffle,
    store,
    vector,
)
from qcomp.targets.cpu.emit.dynamic_loop import trips
from qcomp.targets.cpu.emit.stack import stack

REGISTERS = 8
ROWS = 16
ROW_BYTES = 64


class Tiles(enum.Enum):
    """The tile unit of a machine."""

    AMX = "amx"  # tdpbusd
    EMULATED = "emulated"  # the same in software: how kernels for AMX are tested without it


@dataclass(frozen=True)
class Tile:
    """A tile register and the shape that it is configured to."""

    register: int
    rows: int
    row_bytes: int


class TileUnit(Protocol):
    """What can be done with tiles. Strides are bytes from row to row; 0 repeats one row."""

    def load(self, b: ir.IRBuilder, tile: Tile, pointer: Value, stride: int) -> None: ...

    def dot(self, b: ir.IRBuilder, c: Tile, a: Tile, w: Tile) -> None:
        """c += a * w; `dot` of this module."""

    def store(self, b: ir.IRBuilder, tile: Tile, pointer: Value, stride: int) -> None: ...

    def release(self, b: ir.IRBuilder) -> None:
        """No tile may be used from here on."""


def dot(c: NDArray[np.int32], a: NDArray[np.uint8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    """The meaning of tdpbusd; sums wrap around."""
    columns = w.reshape(len(w), -1, 4).transpose(0, 2, 1).reshape(4 * len(w), -1)
    sums: NDArray[np.int32] = c + (a.astype(np.int64) @ columns).astype(np.int32)
    return sums


def configured(b: ir.IRBuilder, unit: Tiles, tiles: Sequence[Tile]) -> TileUnit:
    """The tile unit of a machine, with these shapes in effect; call it in the entry block."""
    assert len({t.register for t in tiles}) == len(tiles)
    for tile in tiles:
        assert 0 <= tile.register < REGISTERS
        assert 0 < tile.rows <= ROWS
        assert 0 < tile.row_bytes <= ROW_BYTES
        assert tile.row_bytes % 4 == 0
    if unit is Tiles.EMULATED:
        return _Emulated(stack(b, REGISTERS * ROWS * ROW_BYTES))
    amx = _Amx()
    amx.configure(b, tiles)
    return amx


def tile_products(b: ir.IRBuilder, memory: Value, begin: Value, end: Value) -> float:
    """Over and over, four tiles of sums of two tiles of activations and two of weights."""
    tiles = [Tile(n, ROWS, ROW_BYTES) for n in range(8)]
    unit = configured(b, Tiles.AMX, tiles)
    for tile in tiles:
        unit.load(b, tile, memory, ROW_BYTES)

    def trip(_: Value, values: Sequence[Value]) -> Sequence[Value]:
        for n in range(4):
            unit.dot(b, tiles[n], tiles[4 + n // 2], tiles[6 + n % 2])
        return values

    trips(b, begin, end, (), trip)
    unit.store(b, tiles[0], memory, ROW_BYTES)
    unit.release(b)
    return float(4 * ROWS * ROWS * ROW_BYTES)


def _check(c: Tile, a: Tile, w: Tile) -> None:
    """What the processor would raise #UD for."""
    assert len({c.register, a.register, w.register}) == 3
    assert (a.rows, w.row_bytes, a.row_bytes) == (c.rows, c.row_bytes, 4 * w.rows)


@dataclass(frozen=True)
class _Amx:
    """The instructions. Their immediate forms need no register allocation by LLVM."""

    def configure(self, b: ir.IRBuilder, tiles: Sequence[Tile]) -> None:
        self._call(b, "ldtilecfg", _configuration(b.module, tiles))

    def load(self, b: ir.IRBuilder, tile: Tile, pointer: Value, stride: int) -> None:
        self._call(b, "tileloadd64", _number(tile), pointer, i64(stride))

    def dot(self, b: ir.IRBuilder, c: Tile, a: Tile, w: Tile) -> None:
        _check(c, a, w)
        self._call(b, "tdpbusd", _number(c), _number(a), _number(w))

    def store(self, b: ir.IRBuilder, tile: Tile, pointer: Value, stride: int) -> None:
        self._call(b, "tilestored64", _number(tile), pointer, i64(stride))

    def release(self, b: ir.IRBuilder) -> None:
        self._call(b, "tilerelease")

    def _call(self, b: ir.IRBuilder, name: str, *arguments: Value) -> None:
        full = f"llvm.x86.{name}"
        type = ir.FunctionType(ir.VoidType(), [x.type for x in arguments])
        b.call(b.module.function(full, type), arguments)


def _number(tile: Tile) -> ir.Constant:
    return ir.Constant(I8, tile.register)


def _configuration(module: ir.Module, tiles: Sequence[Tile]) -> ir.GlobalVariable:
    """The operand of ldtilecfg: palette 1, bytes per row of each tile, rows of each tile."""
    row_bytes, rows = [0] * 16, [0] * 16
    for tile in tiles:
        row_bytes[tile.register], rows[tile.register] = tile.row_bytes, tile.rows
    content = struct.pack("<B15x16H16B", 1, *row_bytes, *rows)
    name = "tiles." + ".".join(f"{r}x{c}" for r, c in zip(rows, row_bytes, strict=True) if r)
    return module.constant(name, ir.bytes_of(content), ROW_BYTES)


@dataclass(frozen=True, eq=False)
class _Emulated:
    """The same in generic instructions, on registers that lie at `base` in memory."""

    base: Value

    def load(self, b: ir.IRBuilder, tile: Tile, pointer: Value, stride: int) -> None:
        self._copy(b, tile, (pointer, stride), (self._at(b, tile), ROW_BYTES))

    def store(self, b: ir.IRBuilder, tile: Tile, pointer: Value, stride: int) -> None:
        self._copy(b, tile, (self._at(b, tile), ROW_BYTES), (pointer, stride))

    def dot(self, b: ir.IRBuilder, c: Tile, a: Tile, w: Tile) -> None:
        _check(c, a, w)
        sums = vector(I32, c.row_bytes // 4)
        rows_of_c, rows_of_a, rows_of_w = (self._at(b, t) for t in (c, a, w))

        def row(m: Value | int) -> None:
            four_of_a = at(b, rows_of_a, multiple(b, m, ROW_BYTES))
            place = at(b, rows_of_c, multiple(b, m, ROW_BYTES))

            def step(k: Value | int, carried: Carried) -> Carried:
                x = load(b, at(b, four_of_a, multiple(b, k, 4)), I32)
                weights = at(b, rows_of_w, multiple(b, k, ROW_BYTES))
                return [b.add(carried[0], _sums_of_four(b, x, weights, sums))]

            store(b, repeat(b, w.rows, [load(b, place, sums)], step)[0], place)

        loop(b, c.rows, row)

    def release(self, b: ir.IRBuilder) -> None:
        """Memory of the stack needs none."""

    def _at(self, b: ir.IRBuilder, tile: Tile) -> Value:
        return at(b, self.base, tile.register * ROWS * ROW_BYTES)

    def _copy(
        self, b: ir.IRBuilder, tile: Tile, source: tuple[Value, int], to: tuple[Value, int]
    ) -> None:
        def row(m: Value | int) -> None:
            from_, there = (at(b, p, multiple(b, m, stride)) for p, stride in (source, to))
            store(b, load(b, from_, vector(I32, tile.row_bytes // 4)), there)

        loop(b, tile.rows, row)


def _sums_of_four(b: ir.IRBuilder, x: Value, weights: Value, sums: ir.VectorType) -> Value:
    """For each lane, the four u8 of `x` times its four weights."""
    lanes = sums.count
    bytes_, wide = vector(I8, 4 * lanes), vector(I32, 4 * lanes)
    w = b.sext(load(b, weights, bytes_), wide)
    products = b.mul(b.zext(b.bitcast(broadcast(b, x, lanes), bytes_), wide), w)
    total = None
    for i in range(4):
        part = shuffle(b, products, products, range(i, 4 * lanes, 4))
        total = part if total is None else b.add(total, part)
    return total
