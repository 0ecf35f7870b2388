"""Lowering of the logarithm of a sum of squares, of either width: one loop nest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcomp.ir.ops import Op, QLogPower
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.i16.power import log_power
from qcomp.targets.cpu.emit.nest import Body, Nest
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, Prepared, element_types
from qcomp.targets.cpu.lower.elementwise import anonymous
from qcomp.targets.cpu.lower.i16.types import bytes_of


def lower_log_power(lowering: Lowering, op: QLogPower) -> None:
    places = [lowering.place(t) for t in (op.a, op.b, op.output)]
    types = element_types(lowering.graph, op.a, op.b, op.output)

    def make(b: ir.IRBuilder, pointers: Sequence[Value]) -> Body:
        (table,) = pointers
        return lambda b, values, lanes: log_power(b, op, values[0], values[1], table)

    lowering.nest(
        op.mnemonic,
        Nest(
            places[2].layout.shape,
            tuple(p.layout.strides for p in places),
            tuple(map(bytes_of, types)),
        ),
        [p.start for p in places],
        types,
        Prepared((lowering.constant(lowering.graph.data(op.log_table)),), make),
        anonymous(op),
    )


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QLogPower: lower_log_power,
}
