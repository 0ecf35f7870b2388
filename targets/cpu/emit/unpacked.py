"""Weights of few bits as bytes on the stack, unpacked once for all pixels of a block."""

from __future__ import annotations

from dataclasses import replace

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, Value, at, load, loop, multiple, store, vector
from qcomp.targets.cpu.emit.codes import coded
from qcomp.targets.cpu.emit.gemm_blocks import Block, EmitPixels, repeated
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.gemm import GemmSpec

_TOGETHER = 8  # steps in straight code


def unpacked(spec: GemmSpec) -> GemmSpec:
    """The layer with weights of 8 bits."""
    return replace(spec, weight_bits=8)


def over_unpacked(
    spec: GemmSpec, memory: Value, vector_bytes: int, pixels: EmitPixels
) -> EmitPixels:
    """`pixels` with the weights of the block in `memory`, whole panels."""

    def of_block(b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
        unpack(b, spec, spec.panel_bytes, block.weights, memory, block, vector_bytes)
        pixels(b, span, src, replace(block, weights=memory))

    return of_block


def unpack(
    b: ir.IRBuilder,
    spec: GemmSpec,
    apart: int,
    packed: Value,
    memory: Value,
    block: Block,
    vector_bytes: int,
) -> None:
    """The panels of a block, which lie `apart` bytes from each other, to one after the other."""
    width = unpacked(spec).panel_bytes

    def panel(n: Value | int) -> None:
        place = at(b, packed, multiple(b, n, apart))
        _unpack_panel(b, spec, place, at(b, memory, multiple(b, n, width)), vector_bytes)

    loop(b, -(-block.channels // spec.packing.panel), panel, "panel")


def _unpack_panel(
    b: ir.IRBuilder, spec: GemmSpec, packed: Value, to: Value, vector_bytes: int
) -> None:
    """One segment after the other and the joined steps, whole rows and the steps that are left."""
    together, row_bytes = spec.row_steps, spec.row_bytes
    type = vector(I8, vector_bytes)

    def steps(row: Value, place: Value, count: int) -> None:
        for k in range(count):
            for v in range(0, row_bytes, vector_bytes):
                values = load(b, at(b, coded(row, spec.weight_bits, k), v), type)
                store(b, values, at(b, place, k * row_bytes + v))

    def run(source: Value, place: Value, count: int) -> None:
        whole, rest = divmod(count, together)

        def row(k: Value | int, _: object) -> tuple[()]:
            step = multiple(b, k, together * row_bytes)
            steps(at(b, source, multiple(b, k, row_bytes)), at(b, place, step), together)
            return ()

        if whole:
            repeated(b, whole, (), row, _TOGETHER // together)
        end = whole * row_bytes
        steps(at(b, source, end), at(b, place, together * end), rest)

    def segment(n: Value | int) -> None:
        source = at(b, packed, multiple(b, n, spec.segment_bytes))
        run(source, at(b, to, multiple(b, n, spec.steps * row_bytes)), spec.steps)

    if spec.steps:
        loop(b, spec.segment_count, segment, "segment")
    joined = at(b, to, unpacked(spec).inside_bytes)
    run(at(b, packed, spec.inside_bytes), joined, spec.joined_steps)
