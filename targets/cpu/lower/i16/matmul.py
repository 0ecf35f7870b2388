"""Lowering of the product of two activations, one or both of 16 bits."""

from __future__ import annotations

from llvmlite import ir

from qcomp.ir.ops import QMatMul
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.gemm import Axis
from qcomp.targets.cpu.emit.i16.matmul import MatrixSpec, emit_matmul
from qcomp.targets.cpu.lower.context import Lowering, element_types
from qcomp.targets.cpu.lower.matmul import outer_axes


def lower_matmul(lowering: Lowering, op: QMatMul) -> None:
    a, b, y = (lowering.place(t) for t in (op.a, op.b, op.output))
    first, second = element_types(lowering.graph, op.a, op.b)
    spec = MatrixSpec(
        outer=outer_axes(a, b, y),
        rows=Axis(y.layout.shape[-2], a.layout.strides[-2], y.layout.strides[-2]),
        depth=a.layout.shape[-1],
        depth_stride=b.layout.strides[-2],
        columns=y.layout.shape[-1],
        types=(first, second),
        a_zero_point=op.a_zero_point,
        b_zero_point=op.b_zero_point,
        multiplier=op.multiplier,
        shift=op.shift,
        requantize=op.requantize,
    )
    lanes = lowering.isa.lanes

    def emit(builder: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_matmul(builder, spec, lanes, *pointers)

    lowering.call("matmul_i16", spec, (a.start, b.start, y.start), emit)
