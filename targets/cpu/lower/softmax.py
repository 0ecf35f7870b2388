"""Lowering of softmax and log-softmax along any axis."""

from __future__ import annotations

from llvmlite import ir

from qcomp.ir.ops import QLogSoftmax, QSoftmax
from qcomp.targets.cpu.emit.builder import Value, biased
from qcomp.targets.cpu.emit.gemm import Axis
from qcomp.targets.cpu.emit.reduce import simplified_axes
from qcomp.targets.cpu.emit.softmax import (
    LogSpec,
    SoftmaxSpec,
    emit_log_softmax,
    emit_softmax,
)
from qcomp.targets.cpu.emit.softmax_permuted import (
    emit_softmax_permuted,
    exponential_planes,
    is_permuted,
)
from qcomp.targets.cpu.lower.context import Lowering


def lower_softmax(lowering: Lowering, op: QSoftmax) -> None:
    spec = softmax_spec(lowering, op)
    if is_permuted(spec, lowering.isa):
        _permuted(lowering, op, spec)
        return

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_softmax(b, spec, *pointers)

    arguments = [lowering.place(t).start for t in (op.x, op.output, op.exp_table)]
    lowering.call("softmax", spec, arguments, emit)


def _permuted(lowering: Lowering, op: QSoftmax, spec: SoftmaxSpec) -> None:
    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        src, dst, exponentials = pointers
        emit_softmax_permuted(b, spec, biased(src), biased(dst), exponentials)

    planes = lowering.constant(exponential_planes(lowering.graph.data(op.exp_table)))
    arguments = [lowering.place(op.x).start, lowering.place(op.output).start, planes]
    lowering.call("softmax_permuted", spec, arguments, emit)


def lower_log_softmax(lowering: Lowering, op: QLogSoftmax) -> None:
    spec = softmax_spec(lowering, op)
    log = LogSpec(op.multiplier, op.shift, op.zero_point)

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_log_softmax(b, spec, log, *pointers)

    operands = (op.x, op.output, op.exp_table, op.log_table)
    arguments = [lowering.place(t).start for t in operands]
    lowering.call("log_softmax", (spec, log), arguments, emit)


def softmax_spec(lowering: Lowering, op: QSoftmax | QLogSoftmax) -> SoftmaxSpec:
    x, y = lowering.place(op.x).layout, lowering.place(op.output).layout
    axes = [Axis(*step) for step in zip(x.shape, x.strides, y.strides, strict=True)]
    kept = simplified_axes(axes[: op.axis] + axes[op.axis + 1 :])
    return SoftmaxSpec(kept, axes[op.axis], lowering.isa.lanes)
