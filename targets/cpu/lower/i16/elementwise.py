"""Lowering of elementwise ops with operands or results of 16 bits: one loop nest each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qcomp.ir.exemptions import Exemptions
from qcomp.ir.ops import (
    Interpolate,
    Op,
    QAdd,
    QAddRescaled,
    QAddWide,
    QBinary,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QRescale,
    Table,
)
from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, Value
from qcomp.targets.cpu.emit.i16 import elementwise as emit
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
    QMinimum: emit.minimum,
    QMaximum: emit.maximum,
}
EXEMPT: Exemptions = {
    QAdd: "has 8-bit operands only",
    QAddRescaled: "no kernel of 16 bits rounds the operands of a sum one by one",
}


def lower_binary(lowering: Lowering, op: QBinary) -> None:
    a, c, y = (lowering.place(t) for t in (op.a, op.b, op.output))
    types = element_types(lowering.graph, op.a, op.b, op.output)
    shape = y.layout.shape
    strides = (
        broadcast_strides(a.layout, shape),
        broadcast_strides(c.layout, shape),
        y.layout.strides,
    )
    own, portable = lowering.isa.machine.elementwise_16(op), BINARY[type(op)]
    lowering.nest(
        op.mnemonic,
        Nest(shape, strides, tuple(map(bytes_of, types))),
        [a.start, c.start, y.start],
        types,
        own or (lambda b, values, lanes: portable(b, op, *values)),
        anonymous(op),
    )


def lower_prelu(lowering: Lowering, op: QPRelu) -> None:
    x, slope, y = (lowering.place(t) for t in (op.x, op.negative_multiplier, op.output))
    source, result = element_types(lowering.graph, op.x, op.output)
    shape = y.layout.shape
    strides = (x.layout.strides, broadcast_strides(slope.layout, shape), y.layout.strides)
    lowering.nest(
        op.mnemonic,
        Nest(shape, strides, (bytes_of(source), 4, bytes_of(result))),
        [x.start, slope.start, y.start],
        [source, I32, result],
        lambda b, values, lanes: emit.prelu(b, op, *values),
        anonymous(op),
    )


def lower_rescale(lowering: Lowering, op: QRescale) -> None:
    own = lowering.isa.machine.elementwise_16(op)
    _unary(lowering, op, own or (lambda b, values, lanes: emit.rescale(b, op, *values)))


def lower_interpolate(lowering: Lowering, op: Interpolate) -> None:
    curve = lowering.isa.machine.curves.curve(op, lowering.graph.data(op.table))
    table = lowering.constant(curve.data)
    body = Prepared((table,), lambda b, pointers: curve.make(b, *pointers))
    _unary(lowering, op, body, curve.lanes)


def lower_table(lowering: Lowering, op: Table) -> None:
    _unary(lowering, op, _reading(lowering, op.table, emit.looked_up))


def _reading(lowering: Lowering, table: TensorId, result: Callable[..., Value]) -> Prepared:
    """result(builder, elements, pointer to the table)."""

    def make(b: ir.IRBuilder, pointers: Sequence[Value]) -> Body:
        return lambda b, values, lanes: result(b, *values, *pointers)

    return Prepared((lowering.constant(lowering.graph.data(table)),), make)


def _unary(
    lowering: Lowering,
    op: QRescale | Interpolate | Table,
    body: Body | Prepared,
    width: int | None = None,
) -> None:
    x, y = lowering.place(op.x), lowering.place(op.output)
    types = element_types(lowering.graph, op.x, op.output)
    lowering.nest(
        op.mnemonic,
        Nest(y.layout.shape, (x.layout.strides, y.layout.strides), tuple(map(bytes_of, types))),
        [x.start, y.start],
        types,
        body,
        anonymous(op),
        width=width,
    )


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QRescale: lower_rescale,
}


I16_LOWERINGS: Mapping[type[Op], LowerOp] = {
    QAddWide: lower_binary,
    QMul: lower_binary,
    QDiv: lower_binary,
    QMinimum: lower_binary,
    QMaximum: lower_binary,
    QPRelu: lower_prelu,
    QRescale: lower_rescale,
    Table: lower_table,
    Interpolate: lower_interpolate,
}
