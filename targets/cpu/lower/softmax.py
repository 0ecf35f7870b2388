"""Lowering of softmax and log-softmax along any axis."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir.ops import Op, QLogSoftmax, QSoftmax
from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.reduce import simplified_axes
from qcomp.targets.cpu.emit.softmax import (
    LogSpec,
    SoftmaxRows,
    SoftmaxSpec,
    emit_log_softmax,
    emit_softmax,
)
from qcomp.targets.cpu.emit.softmax_tflite import emit_softmax_tflite
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.lower.context import Lowering, LowerOp


def lower_softmax(lowering: Lowering, op: QSoftmax) -> None:
    if op.form is Form.TFLITE:
        _tflite(lowering, op)
        return
    spec = softmax_spec(lowering, op, op.finer)
    rows = lowering.isa.machine.softmax
    if rows is not None and rows.takes(spec):
        lower_rows(lowering, op, spec, rows)
        return

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_softmax(b, spec, *pointers)

    arguments = [lowering.place(t).start for t in (op.x, op.output, op.exp_table)]
    lowering.call("softmax", spec, arguments, emit)


def _tflite(lowering: Lowering, op: QSoftmax) -> None:
    spec = softmax_spec(lowering, op, op.finer)

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_softmax_tflite(b, spec, *pointers)

    arguments = [lowering.place(t).start for t in (op.x, op.output, op.exp_table)]
    lowering.call("softmax_tflite", spec, arguments, emit)


def lower_rows(lowering: Lowering, op: QSoftmax, spec: SoftmaxSpec, rows: SoftmaxRows) -> None:
    """As the machine computes such rows."""

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        rows.emit(b, spec, *pointers)

    exponentials = lowering.constant(rows.data(lowering.graph.data(op.exp_table)))
    arguments = [lowering.place(op.x).start, lowering.place(op.output).start, exponentials]
    lowering.call(rows.kind, spec, arguments, emit)


def lower_log_softmax(lowering: Lowering, op: QLogSoftmax) -> None:
    spec = softmax_spec(lowering, op, 0)
    log = LogSpec(op.multiplier, op.shift, op.zero_point)

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_log_softmax(b, spec, log, *pointers)

    operands = (op.x, op.output, op.exp_table, op.log_table)
    arguments = [lowering.place(t).start for t in operands]
    lowering.call("log_softmax", (spec, log), arguments, emit)


def softmax_spec(lowering: Lowering, op: QSoftmax | QLogSoftmax, finer: int) -> SoftmaxSpec:
    x, y = lowering.place(op.x).layout, lowering.place(op.output).layout
    axes = [Axis(*step) for step in zip(x.shape, x.strides, y.strides, strict=True)]
    kept = simplified_axes(axes[: op.axis] + axes[op.axis + 1 :])
    return SoftmaxSpec(kept, axes[op.axis], lowering.isa.lanes, finer)


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QSoftmax: lower_softmax,
    QLogSoftmax: lower_log_softmax,
}
