"""Lowering of elementwise ops with operands or results of 32 bits: one loop nest each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qcomp.ir.ops import InterpolateOctaves, Op, QAddWide, QBinary, QDiv, QMul, QRescale
from qcomp.quant.octaves import sides_of
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.i32 import elementwise as emit
from qcomp.targets.cpu.emit.nest import Body, Nest
from qcomp.targets.cpu.lower.context import (
    Lowering,
    LowerOp,
    Prepared,
    broadcast_strides,
    element_types,
)
from qcomp.targets.cpu.lower.elementwise import anonymous
from qcomp.targets.cpu.lower.i16.types import bytes_of

BINARY: Mapping[type[QBinary], Callable[..., Value]] = {
    QAddWide: emit.add_wide,
    QMul: emit.mul,
    QDiv: emit.div,
}


def lower_binary(lowering: Lowering, op: QBinary) -> None:
    portable = BINARY[type(op)]
    _nest(lowering, op, (op.a, op.b), lambda b, values, lanes: portable(b, op, *values))


def lower_rescale(lowering: Lowering, op: QRescale) -> None:
    _nest(lowering, op, (op.x,), lambda b, values, lanes: emit.rescale(b, op, *values))


def lower_interpolate_octaves(lowering: Lowering, op: InterpolateOctaves) -> None:
    table = lowering.graph.data(op.table)
    signed = sides_of(table.size, op.step_bits) == 2

    def make(b: ir.IRBuilder, pointers: Sequence[Value]) -> Body:
        (entries,) = pointers
        return lambda b, values, lanes: emit.interpolate_octaves(
            b, op, values[0], entries, signed=signed
        )

    _nest(lowering, op, (op.x,), Prepared((lowering.constant(table),), make), signed=signed)


def _nest(
    lowering: Lowering,
    op: Op,
    sources: tuple[str, ...],
    body: Body | Prepared,
    *,
    signed: bool = True,
) -> None:
    """Lanes are i64, of which a vector has half as many as of i32."""
    y = lowering.place(op.output)
    places = [lowering.place(t) for t in sources]
    types = element_types(lowering.graph, *sources, op.output)
    strides = [broadcast_strides(p.layout, y.layout.shape) for p in places]
    lowering.nest(
        op.mnemonic,
        Nest(y.layout.shape, (*strides, y.layout.strides), tuple(map(bytes_of, types))),
        [*(p.start for p in places), y.start],
        types,
        body,
        (anonymous(op), signed, tuple(types)),
        width=lowering.isa.lanes,
    )


I32_LOWERINGS: Mapping[type[Op], LowerOp] = {
    QAddWide: lower_binary,
    QMul: lower_binary,
    QDiv: lower_binary,
    QRescale: lower_rescale,
    InterpolateOctaves: lower_interpolate_octaves,
}
