"""Convolution and dense layers as a register-tiled GEMM with implicit im2col.

An NHWC convolution on an image with a border is a matrix product whose K axis is cut in segments:
KH (x KW) runs of contiguous bytes of the source. No copy, no bounds checks. Products of pairs are
`sext(x) * sext(w)` added two by two, which LLVM turns into the machine's 16-bit multiply-add.

Meaning: qcomp.ir.evaluate.integer (QConv2d, QDense); the bias holds -zero_point * sum(w) and the
rounding of the narrow form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    at,
    broadcast,
    load,
    loop,
    multiple,
    overlapped,
    plus,
    repeat,
    shuffle,
    store_bytes,
    vector,
)
from qcomp.targets.cpu.emit.requantize import HEADER_INTS, Saturation, emit_requantize
from qcomp.targets.cpu.isa import Isa


@dataclass(frozen=True)
class Axis:
    """A loop: how often, and how many bytes source and result move."""

    count: int
    src: int
    dst: int


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
    def pairs(self) -> int:
        return (self.length + 1) // 2


@dataclass(frozen=True)
class Tiling:
    """Register tile: `pixels` x `blocks[i]` vectors; blocks cover the output channels."""

    pixels: int
    blocks: tuple[int, ...]
    lanes: int


def flattened(spec: GemmSpec) -> GemmSpec:
    """Rows and columns as one axis where both tensors step evenly over the row ends."""
    rows, columns = spec.rows, spec.columns
    if rows.count == 1 or (
        rows.src == columns.count * columns.src and rows.dst == columns.count * columns.dst
    ):
        merged = Axis(rows.count * columns.count, columns.src, columns.dst)
        return GemmSpec(**{**spec.__dict__, "rows": Axis(1, 0, 0), "columns": merged})
    return spec


def tiling(spec: GemmSpec, isa: Isa) -> Tiling:
    """Balanced tiles: accumulators, one block of weights and two temporaries fit the registers."""
    vectors = -(-spec.channels // isa.lanes)
    widest = min(4 if isa.registers >= 32 else 2, vectors)
    count = -(-vectors // widest)
    blocks = tuple(vectors // count + (1 if i < vectors % count else 0) for i in range(count))
    most = max(1, min((isa.registers - 3 - blocks[0]) // blocks[0], 14))
    columns = spec.columns.count
    pixels = -(-columns // -(-columns // most))
    return Tiling(pixels, blocks, isa.lanes)


def pack_weights(weight: NDArray[np.int8], spec: GemmSpec, tile: Tiling) -> NDArray[np.int8]:
    """One group's [N, segments, length] to [block][segment][pair][vector][lane][2], zero-filled."""
    channels, segments, length = weight.shape
    lanes = tile.lanes
    vectors = sum(tile.blocks)
    padded = np.zeros((vectors * lanes, segments, spec.pairs * 2), np.int8)
    padded[:channels, :, :length] = weight
    padded = padded.reshape(vectors, lanes, segments, spec.pairs, 2)
    parts = []
    first = 0
    for n in tile.blocks:
        block = padded[first : first + n].transpose(2, 3, 0, 1, 4)
        parts.append(np.ascontiguousarray(block).reshape(-1))
        first += n
    return np.concatenate(parts)


def pack_channels(values: NDArray[np.int32], tile: Tiling) -> NDArray[np.int32]:
    """[N] parameters of one group, padded to whole vectors."""
    padded = np.zeros(sum(tile.blocks) * tile.lanes, np.int32)
    padded[: len(values)] = values
    return padded


def emit_gemm(
    b: ir.IRBuilder,
    spec: GemmSpec,
    tile: Tiling,
    src: Value,
    dst: Value,
    weights: Value,
    params: Value,
) -> None:
    """The whole layer. `params` is i32: header, [group][bias, multiplier, ...][channel]."""
    vectors = sum(tile.blocks)
    vector_bytes = tile.lanes * 4
    pair_bytes = tile.lanes * 2
    table_bytes = vectors * vector_bytes
    depth = spec.segment_count * spec.pairs  # weight vectors of one channel vector
    tiles = -(-spec.columns.count // tile.pixels)
    tables = at(b, params, 4 * HEADER_INTS)

    def group(g: Value | int) -> None:
        g_src = at(b, src, multiple(b, g, spec.groups.src))
        g_dst = at(b, dst, multiple(b, g, spec.groups.dst))
        g_weights = at(b, weights, multiple(b, g, vectors * depth * pair_bytes))
        g_params = at(b, tables, multiple(b, g, spec.tables * table_bytes))
        first = 0
        for size, count in _runs(tile.blocks):
            for_blocks(size, count, first, g_src, g_dst, g_weights, g_params)
            first += size * count

    def for_blocks(
        size: int, count: int, first: int, src: Value, dst: Value, weights: Value, params: Value
    ) -> None:
        # The last block of the last run may hold fewer channels than its vectors do.
        ends = first + size * count == vectors
        partial = ends and spec.channels % tile.lanes != 0
        whole = count - 1 if partial else count

        def block(n: Value | int, channels: int) -> None:
            start = plus(b, multiple(b, n, size), first)
            w = at(b, weights, multiple(b, start, depth * pair_bytes))
            p = at(b, params, multiple(b, start, vector_bytes))
            d = at(b, dst, multiple(b, start, tile.lanes))
            pixels(size, channels, src, d, w, p)

        loop(b, whole, lambda n: block(n, size * tile.lanes), "block")
        if partial:
            done = first + whole * size
            block(whole, spec.channels - done * tile.lanes)

    def pixels(size: int, channels: int, src: Value, dst: Value, w: Value, p: Value) -> None:
        def batch(i: Value | int) -> None:
            def row(r: Value | int) -> None:
                def column(t: Value | int) -> None:
                    x = overlapped(b, t, tile.pixels, spec.columns.count)
                    s = at(b, src, _offset(b, spec, "src", i, r, x))
                    d = at(b, dst, _offset(b, spec, "dst", i, r, x))
                    core(size, channels, s, d, w, p)

                loop(b, tiles, column, "tile")

            loop(b, spec.rows.count, row, "row")

        loop(b, spec.batch.count, batch, "batch")

    def core(size: int, channels: int, src: Value, dst: Value, w: Value, p: Value) -> None:
        i32s = vector(I32, tile.lanes)

        def table(t: int, v: int) -> Value:
            return load(b, at(b, p, t * table_bytes + v * vector_bytes), i32s, 4)

        bias = [table(0, v) for v in range(size)]
        sums = _dot(b, spec, tile, size, bias * tile.pixels, src, w)
        layer = Saturation.loaded(b, params, tile.lanes)
        for v in range(size):
            to = layer.below(b, table(3, v)) if spec.ceiling else layer
            constants = (table(1, v), table(2, v), spec.form, to)
            for m in range(tile.pixels):
                q = emit_requantize(b, sums[m * size + v], *constants)
                count = min(tile.lanes, channels - v * tile.lanes)
                offset = m * spec.columns.dst + v * tile.lanes
                store_bytes(b, q, at(b, dst, offset), count)

    loop(b, spec.groups.count, group, "group")
    b.ret_void()


def _runs(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """(size, how many in a row) of the blocks."""
    return [(size, blocks.count(size)) for size in dict.fromkeys(blocks)]


def _offset(
    b: ir.IRBuilder, spec: GemmSpec, side: str, i: Value | int, r: Value | int, x: Value | int
) -> Value | int:
    total: Value | int = 0
    for index, axis in ((i, spec.batch), (r, spec.rows), (x, spec.columns)):
        total = plus(b, total, multiple(b, index, axis.src if side == "src" else axis.dst))
    return total


def _dot(
    b: ir.IRBuilder,
    spec: GemmSpec,
    tile: Tiling,
    size: int,
    sums: Sequence[Value],
    src: Value,
    weights: Value,
) -> list[Value]:
    """Accumulate over segments and pairs; weights advance linearly."""
    lanes = tile.lanes
    step = size * lanes * 2  # weight bytes of one pair

    def pairs(x: Value, w: Value, sums: Sequence[Value]) -> Sequence[Value]:
        def pair(k: Value | int, sums: Sequence[Value]) -> Sequence[Value]:
            return _multiply_add(
                b, tile, size, spec.columns.src, sums,
                at(b, x, multiple(b, k, 2)), at(b, w, multiple(b, k, step)),
            )  # fmt: skip

        return repeat(b, spec.pairs, sums, pair, "k")

    def nested(level: int, x: Value, w: Value, sums: Sequence[Value]) -> Sequence[Value]:
        if level == len(spec.segments):
            return pairs(x, w, sums)
        count, stride = spec.segments[level]
        inner = spec.pairs * step
        for n, _ in spec.segments[level + 1 :]:
            inner *= n

        def segment(s: Value | int, sums: Sequence[Value]) -> Sequence[Value]:
            return nested(
                level + 1, at(b, x, multiple(b, s, stride)), at(b, w, multiple(b, s, inner)), sums
            )

        return repeat(b, count, sums, segment, "segment")

    return list(nested(0, src, weights, sums))


def _multiply_add(
    b: ir.IRBuilder, tile: Tiling, size: int, pitch: int, sums: Sequence[Value], x: Value, w: Value
) -> list[Value]:
    """sums[m, v] += x[m, 0] * w[v, :, 0] + x[m, 1] * w[v, :, 1]; |products| < 2^14, no overflow."""
    lanes = tile.lanes
    i8s, i32s = vector(I8, 2 * lanes), vector(I32, 2 * lanes)
    columns = [
        b.sext(load(b, at(b, w, v * 2 * lanes), i8s, min(2 * lanes, 64)), i32s) for v in range(size)
    ]
    result = []
    for m in range(tile.pixels):
        both = broadcast(b, load(b, at(b, x, m * pitch), I16), lanes)
        a = b.sext(b.bitcast(both, i8s), i32s)
        result += [
            b.add(sums[m * size + v], _pair_sums(b, b.mul(a, column), lanes))
            for v, column in enumerate(columns)
        ]
    return result


def _pair_sums(b: ir.IRBuilder, products: Value, lanes: int) -> Value:
    """Sums of neighbouring lanes: the shape of pmaddwd."""
    even = shuffle(b, products, products, range(0, 2 * lanes, 2))
    odd = shuffle(b, products, products, range(1, 2 * lanes, 2))
    return b.add(even, odd)
