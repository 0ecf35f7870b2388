"""Weights of few bits as bytes that tiles are loaded from, a block of channels at a time."""

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
        panels = -(-block.channels // spec.packing.panel)
        width = unpacked(spec).panel_bytes

        def panel(n: Value | int) -> None:
            packed = at(b, block.weights, multiple(b, n, spec.panel_bytes))
            _unpack_panel(b, spec, packed, at(b, memory, multiple(b, n, width)), vector_bytes)

        loop(b, panels, panel, "panel")
        pixels(b, span, src, replace(block, weights=memory))

    return of_block


def _unpack_panel(
    b: ir.IRBuilder, spec: GemmSpec, packed: Value, to: Value, vector_bytes: int
) -> None:
    """One segment after the other, whole rows and the steps that are left."""
    together, row_bytes = spec.row_steps, spec.row_bytes
    whole, rest = divmod(spec.steps, together)
    type = vector(I8, vector_bytes)

    def steps(row: Value, place: Value, count: int) -> None:
        for k in range(count):
            for v in range(0, row_bytes, vector_bytes):
                values = load(b, at(b, coded(row, spec.weight_bits, k), v), type)
                store(b, values, at(b, place, k * row_bytes + v))

    def segment(n: Value | int) -> None:
        source = at(b, packed, multiple(b, n, spec.segment_bytes))
        place = at(b, to, multiple(b, n, spec.steps * row_bytes))

        def row(k: Value | int, _: object) -> tuple[()]:
            step = multiple(b, k, together * row_bytes)
            steps(at(b, source, multiple(b, k, row_bytes)), at(b, place, step), together)
            return ()

        if whole:
            repeated(b, whole, (), row, _TOGETHER // together)
        end = whole * row_bytes
        steps(at(b, source, end), at(b, place, together * end), rest)

    loop(b, spec.segment_count, segment, "segment")
