"""Depthwise convolution: vectors over channels, the kernel's taps unrolled.

Meaning: qcomp.ir.evaluate.integer (QConv2d with one input channel per group).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    Unsigned,
    Value,
    at,
    load,
    loop,
    multiple,
    overlapped,
    plus,
    raw,
    store_bytes,
    vector,
)
from qcomp.targets.cpu.emit.epilogue import HEADER_INTS
from qcomp.targets.cpu.emit.gemm import Axis
from qcomp.targets.cpu.emit.requantize import Saturation, emit_requantize
from qcomp.targets.cpu.isa import Isa


@dataclass(frozen=True)
class DepthwiseSpec:
    """One shape class of depthwise kernels."""

    batch: Axis
    rows: Axis
    columns: Axis
    taps: tuple[int, ...]  # source offset of each tap, in the order of the weights
    channels: int
    form: Form
    ceiling: bool = False  # as in GemmSpec


_PIXELS = 4
_HELD_TAPS = 9  # weights that stay in registers over a row


def padded_channels(spec: DepthwiseSpec, isa: Isa) -> int:
    """Channels of the weight and parameter tables: whole vectors."""
    return -(-spec.channels // isa.lanes) * isa.lanes


def emit_depthwise(
    b: ir.IRBuilder,
    spec: DepthwiseSpec,
    isa: Isa,
    src: Value,
    dst: Value,
    weights: Value,
    params: Value,
) -> None:
    """The whole layer: weights i8 [tap][channel], params i32 header, [table][channel]."""
    lanes = isa.lanes
    table = padded_channels(spec, isa)
    pixels = min(_PIXELS, spec.columns.count)
    tiles = -(-spec.columns.count // pixels)
    i32s = vector(I32, lanes)
    hold = len(spec.taps) <= _HELD_TAPS and isa.registers >= 32
    # Whole vectors, the last one moved back; fewer channels than lanes are one partial vector.
    step = min(lanes, spec.channels)
    blocks = -(-spec.channels // step)

    def weight(c: Value, tap: int) -> Value:
        return b.sext(load(b, at(b, c, tap * table), vector(I8, lanes)), i32s)

    def row(image: Value, result: Value) -> None:
        def block(n: Value | int) -> None:
            c = overlapped(b, n, step, spec.channels)
            x, y, w = (at(b, p, c) for p in (image, result, weights))
            p = at(b, params, plus(b, multiple(b, c, 4), 4 * HEADER_INTS))
            bias, multiplier, shift, *ceiling = (
                load(b, at(b, p, i * table * 4), i32s) for i in range(4 if spec.ceiling else 3)
            )
            layer = Saturation.loaded(b, params, lanes)
            to = layer.below(b, *ceiling) if ceiling else layer
            held = [weight(w, tap) for tap in range(len(spec.taps))] if hold else None

            def tile(t: Value | int) -> None:
                first = overlapped(b, t, pixels, spec.columns.count)
                window = at(b, x, multiple(b, first, spec.columns.src))
                sums = [bias] * pixels
                for tap, offset in enumerate(spec.taps):
                    k = held[tap] if held is not None else weight(w, tap)
                    sums = _accumulate(b, spec, lanes, sums, window, offset, k)
                d = at(b, y, multiple(b, first, spec.columns.dst))
                for m, acc in enumerate(sums):
                    q = emit_requantize(b, acc, multiplier, shift, spec.form, to)
                    store_bytes(b, q, at(b, d, m * spec.columns.dst), step)

            loop(b, tiles, tile, "tile")

        loop(b, blocks, block, "channels")

    def batch(i: Value | int) -> None:
        def one(r: Value | int) -> None:
            row(
                at(b, src, plus(b, multiple(b, i, spec.batch.src), multiple(b, r, spec.rows.src))),
                at(b, dst, plus(b, multiple(b, i, spec.batch.dst), multiple(b, r, spec.rows.dst))),
            )

        loop(b, spec.rows.count, one, "row")

    loop(b, spec.batch.count, batch, "batch")
    b.ret_void()


def _accumulate(
    b: ir.IRBuilder,
    spec: DepthwiseSpec,
    lanes: int,
    sums: Sequence[Value],
    window: Value,
    offset: int,
    weight: Value,
) -> list[Value]:
    result = []
    for m, acc in enumerate(sums):
        p = at(b, window, offset + m * spec.columns.src)
        pixel = load(b, raw(p), vector(I8, lanes))
        widen = b.zext if isinstance(p, Unsigned) else b.sext
        result.append(b.add(acc, b.mul(widen(pixel, vector(I32, lanes)), weight)))
    return result
