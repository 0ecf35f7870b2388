"""Filling the border of an NHWC buffer: what surrounds each image in memory is a few runs of bytes.

The right border of a row and the left border of the next one are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    Value,
    at,
    loop,
    multiple,
    overlapped,
    splat,
    store,
)
from qcomp.targets.cpu.memory import Layout

_UNROLLED = 8  # stores without a loop


@dataclass(frozen=True)
class Run:
    """`count` times `bytes` neighbouring bytes, `stride` apart."""

    offset: int
    count: int
    stride: int
    bytes: int


@dataclass(frozen=True)
class BorderSpec:
    """The runs around one image, and the images."""

    runs: tuple[Run, ...]
    images: int
    image_bytes: int
    value: int  # of the i8


def border_spec(layout: Layout, value: int) -> BorderSpec:
    """Of a tensor with a border around each image; without rows there is nothing but border."""
    images, height, width, _ = layout.shape
    image, row, pixel, _ = layout.strides
    if height == 0:
        return BorderSpec((Run(0, 1, 0, image),), images, image, value)
    gap = layout.offset + width * pixel  # behind the first row
    end = gap + (height - 1) * row
    runs = (
        Run(0, 1, 0, layout.offset),
        Run(gap, height - 1, row, row - width * pixel),
        Run(end, 1, 0, image - end),
    )
    return BorderSpec(tuple(r for r in runs if r.count * r.bytes), images, image, value)


def emit_border(b: ir.IRBuilder, spec: BorderSpec, width: int, buffer: Value) -> None:
    """In vectors of at most `width` bytes, the last one of a run moved back to end with it."""

    def image(n: Value | int) -> None:
        start = at(b, buffer, multiple(b, n, spec.image_bytes))
        for run in spec.runs:
            _fill_run(b, run, spec.value, width, at(b, start, run.offset))

    loop(b, spec.images, image, "image")
    b.ret_void()


def _fill_run(b: ir.IRBuilder, run: Run, value: int, width: int, first: Value) -> None:
    size = min(width, 1 << (run.bytes.bit_length() - 1))
    stores = -(-run.bytes // size)

    def piece(i: Value | int) -> None:
        p = at(b, first, multiple(b, i, run.stride))

        def one(k: Value | int) -> None:
            store(b, splat(I8, size, value), at(b, p, overlapped(b, k, size, run.bytes)))

        if stores <= _UNROLLED:
            for k in range(stores):
                one(k)
        else:
            loop(b, stores, one)

    loop(b, run.count, piece, "run")
