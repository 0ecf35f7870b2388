"""Lowering of softmax and log-softmax with operands or results of 16 bits."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir.ops import Op, QLogSoftmax, QSoftmax
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.i16.softmax import Types, emit_log_softmax, emit_softmax
from qcomp.targets.cpu.emit.softmax import LogSpec
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, element_types
from qcomp.targets.cpu.lower.softmax import lower_rows, softmax_spec


def lower_softmax(lowering: Lowering, op: QSoftmax) -> None:
    spec, types = (
        softmax_spec(lowering, op, op.finer),
        Types(*element_types(lowering.graph, op.x, op.output)),
    )
    rows = lowering.isa.machine.softmax_16
    if rows is not None and types.source.width == 8 and rows.takes(spec):
        lower_rows(lowering, op, spec, rows)
        return

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_softmax(b, spec, types, *pointers)

    arguments = [lowering.place(t).start for t in (op.x, op.output, op.exp_table)]
    lowering.call("softmax_i16", (spec, types), arguments, emit)


def lower_log_softmax(lowering: Lowering, op: QLogSoftmax) -> None:
    spec, types = (
        softmax_spec(lowering, op, 0),
        Types(*element_types(lowering.graph, op.x, op.output)),
    )
    log = LogSpec(op.multiplier, op.shift, op.zero_point)

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_log_softmax(b, spec, log, types, *pointers)

    operands = (op.x, op.output, op.exp_table, op.log_table)
    arguments = [lowering.place(t).start for t in operands]
    lowering.call("log_softmax_i16", (spec, log, types), arguments, emit)


I16_LOWERINGS: Mapping[type[Op], LowerOp] = {
    QSoftmax: lower_softmax,
    QLogSoftmax: lower_log_softmax,
}
