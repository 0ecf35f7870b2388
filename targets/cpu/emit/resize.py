"""Bilinear resampling of NHWC by weights in Q11 or, of TensorFlow Lite, in Q10.

Meanings: qcomp.ir.evaluate.movement (Resize2d, QResize2d).
"""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.quant.resample import WEIGHT_BITS
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    I64,
    Value,
    at,
    broadcast,
    divided,
    load,
    loop,
    multiple,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import chunk, over_chunks
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import word_type
from qcomp.targets.cpu.kernels.axis import Axis

ENTRY = 3  # i32 per position of a table: offset of x[i0], offset of x[i1], weight of x[i1]


@dataclass(frozen=True)
class ResizeSpec:
    """rows and columns count results; where their sources lie is in the tables."""

    batch: Axis
    rows: Axis
    columns: Axis
    channels: int
    element: ir.IntType = I8
    weight_bits: int = WEIGHT_BITS
    away: bool = False  # from zero are halves rounded, else up

    @property
    def sums(self) -> ir.IntType:
        """What holds 23 bits more than an element."""
        return I32 if self.element.width == 8 else I64


def emit_resize_linear(
    b: ir.IRBuilder,
    spec: ResizeSpec,
    lanes: int,
    span: Span,
    src: Value,
    dst: Value,
    row_table: Value,
    column_table: Value,
) -> None:
    """A span of rows of results.

    Differences have one bit more: a * (2^k - w) + c * w is (a << k) + (c - a) * w.
    """
    width = chunk(spec.channels, 4 * lanes, lanes)
    size = spec.element.width // 8
    sums, results = vector(spec.sums, width), vector(spec.element, width)
    bits = splat(spec.sums, width, spec.weight_bits)
    sign = splat(spec.sums, width, spec.sums.width - 1)

    def entry(table: Value, i: Value | int) -> tuple[Value, Value, Value]:
        slot = at(b, table, multiple(b, i, 4 * ENTRY))
        first, second, weight = (load(b, at(b, slot, 4 * k), I32, 4) for k in range(ENTRY))
        return (
            b.sext(first, word_type(b)),
            b.sext(second, word_type(b)),
            b.sext(broadcast(b, weight, width), sums),
        )

    def between(x: Value, y: Value, weight: Value) -> Value:
        return b.add(b.shl(x, bits), b.mul(b.sub(y, x), weight))

    def row(unit: Value | int) -> None:
        i, r = divided(b, unit, spec.rows.count)
        image = at(b, src, multiple(b, i, spec.batch.src))
        result = at(b, dst, multiple(b, i, spec.batch.dst))
        top, bottom, down = entry(row_table, r)
        lines = at(b, image, top), at(b, image, bottom)
        y = at(b, result, multiple(b, r, spec.rows.dst))

        def column(k: Value | int) -> None:
            left, right, along = entry(column_table, k)
            pixels = [(at(b, p, left), at(b, p, right)) for p in lines]
            z = at(b, y, multiple(b, k, spec.columns.dst))

            def channels(c: Value | int) -> None:
                def tap(p: Value) -> Value:
                    return b.sext(load(b, at(b, p, multiple(b, c, size)), results), sums)

                upper, lower = (between(tap(p), tap(q), along) for p, q in pixels)
                acc = between(upper, lower, down)
                rounded = b.add(acc, splat(spec.sums, width, 1 << (2 * spec.weight_bits - 1)))
                if spec.away:
                    rounded = b.add(rounded, b.ashr(acc, sign))
                q = b.ashr(rounded, splat(spec.sums, width, 2 * spec.weight_bits))
                store(b, b.trunc(q, results), at(b, z, multiple(b, c, size)))

            over_chunks(b, spec.channels, width, channels)

        loop(b, spec.columns.count, column, "column")

    span.loop(b, row, "row")
    b.ret_void()
