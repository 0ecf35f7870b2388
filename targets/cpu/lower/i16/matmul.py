"""Lowering of the product of two activations, one or both of 16 bits."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir.ops import Op, QMatMul
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.i16.matmul import emit_matmul
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, element_types
from qcomp.targets.cpu.lower.matmul import matmul_spec


def lower_matmul(lowering: Lowering, op: QMatMul) -> None:
    a, b, y = (lowering.place(t) for t in (op.a, op.b, op.output))
    first, second = element_types(lowering.graph, op.a, op.b)
    types = (first, second)
    spec = matmul_spec(op, a, b, y)
    lanes = lowering.isa.lanes

    def emit(builder: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_matmul(builder, spec, types, lanes, *pointers)

    lowering.call("matmul_i16", (spec, types), (a.start, b.start, y.start), emit)


I16_LOWERINGS: Mapping[type[Op], LowerOp] = {
    QMatMul: lower_matmul,
}
