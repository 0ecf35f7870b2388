"""The loops around the tiles of a GEMM, whatever registers these are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    Carried,
    Value,
    at,
    divided,
    loop,
    multiple,
    plus,
    repeat,
)
from qcomp.targets.cpu.emit.epilogue import Epilogue
from qcomp.targets.cpu.emit.narrow import BlockParameters, MakeNarrow
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.kernels.constants import header_bytes
from qcomp.targets.cpu.kernels.gemm import GemmPlan, GemmSpec
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring vectors of channels that one register tile computes."""

    vectors: int
    channels: int
    dst: Value
    others: Sequence[Value]  # the residual, if there is one
    weights: Value
    epilogue: Epilogue


EmitPixels = Callable[[ir.IRBuilder, Span, Value, Block], None]


def over_blocks(
    b: ir.IRBuilder,
    spec: GemmSpec,
    plan: GemmPlan[Any],
    isa: Isa,
    pointers: Sequence[Value],
    span: Span,
    pixels: EmitPixels,
    narrow: MakeNarrow | None,
) -> None:
    """pixels(builder, span of pixels, source, block) for the blocks of channels of all groups.

    Pointers: source, result, weights, parameters, (residual). Parameters are i32: header,
    [group][bias, multiplier, shift, (ceiling)][channel]. Blocks of one size share their code.
    """
    src, dst, weights, params, *others = pointers
    table_bytes = spec.padded_channels * 4
    wide = plan.blocks[0] * isa.lanes  # channels of a whole block, whole panels
    whole, rest = divmod(spec.channels, wide)

    def group(g: Value | int) -> None:
        x = at(b, src, multiple(b, g, spec.groups.src))
        results = [at(b, p, multiple(b, g, spec.groups.dst)) for p in (dst, *others)]
        w = at(b, weights, multiple(b, g, spec.panels * spec.panel_bytes))
        first = at(b, params, header_bytes(lookup=spec.lookup))
        tables = at(b, first, multiple(b, g, spec.tables * table_bytes))

        def block(n: Value | int, channels: int, span: Span) -> None:
            first_table = at(b, tables, multiple(b, n, 4 * wide))
            y, *z = (at(b, p, multiple(b, n, wide)) for p in results)
            panels = at(b, w, _first_weights(b, spec, n, wide))
            parameters = BlockParameters(
                header=params,
                tables=first_table,
                table_bytes=table_bytes,
                vector_bytes=4 * isa.lanes,
                lanes=isa.lanes,
                ceiling=spec.ceiling,
                lookup=spec.lookup,
                clamped=spec.clamped,
                repeated=1,
                rectified=spec.rectified,
                shifts_right=spec.shifts_right,
            )
            epilogue = Epilogue(isa, spec.form, parameters, narrow)
            pixels(b, span, x, Block(-(-channels // isa.lanes), channels, y, z, panels, epilogue))

        if plan.by_channels:
            every = Span(word(b, 0), word(b, plan.pixels))
            span.within(b, 0, whole).loop(b, lambda n: block(n, wide, every), "block")
            if rest:
                span.within(b, whole, 1).loop(b, lambda _: block(whole, rest, every), "rest")
        else:
            loop(b, whole, lambda n: block(n, wide, span), "block")
            if rest:
                block(whole, rest, span)

    loop(b, spec.groups.count, group, "group")


def _first_weights(b: ir.IRBuilder, spec: GemmSpec, n: Value | int, wide: int) -> Value | int:
    """Where the weights of block `n` begin: blocks are whole panels, or panels whole blocks."""
    panel = spec.packing.panel
    if wide >= panel:
        return multiple(b, n, wide // panel * spec.panel_bytes)
    which, part = divided(b, n, panel // wide)
    return plus(
        b, multiple(b, which, spec.panel_bytes), multiple(b, part, wide * spec.packing.group)
    )


def over_segments(
    b: ir.IRBuilder,
    spec: GemmSpec,
    carried: Carried,
    body: Callable[[Value | int, Value | int, Carried], Carried],
    *,
    unrolled: bool,
) -> Carried:
    """body(offset in the source, in a panel's weights, values) for each segment."""

    def nested(level: int, x: Value | int, w: Value | int, values: Carried) -> Carried:
        if level == len(spec.segments):
            return body(x, w, values)
        count, stride = spec.segments[level]
        inner = spec.segment_bytes
        for n, _ in spec.segments[level + 1 :]:
            inner *= n

        def segment(s: Value | int, values: Carried) -> Carried:
            x_next = plus(b, x, multiple(b, s, stride))
            return nested(level + 1, x_next, plus(b, w, multiple(b, s, inner)), values)

        return repeated(b, count, values, segment, count if unrolled else 1)

    return nested(0, 0, 0, carried)


def repeated(
    b: ir.IRBuilder,
    count: int,
    carried: Carried,
    body: Callable[[Value | int, Carried], Carried],
    together: int,
) -> Carried:
    """`count` times, `together` times in straight code per trip of the loop."""
    trips, rest = divmod(count, min(together, count))
    together = min(together, count)

    def trip(n: Value | int, values: Carried) -> Carried:
        for k in range(together):
            values = body(plus(b, multiple(b, n, together), k), values)
        return values

    values: Carried = repeat(b, trips, carried, trip, "k")
    for k in range(rest):
        values = body(trips * together + k, values)
    return values
