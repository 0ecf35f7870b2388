"""Lowering of the product of two activations."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir.ops import Op, QMatMul
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.matmul import MatMulSpec
from qcomp.targets.cpu.lower.context import (
    Lowering,
    LowerOp,
    Place,
    broadcast_strides,
    expect_i32_sums,
)

MAX_PRODUCT = 255**2  # of two centred i8


def lower_matmul(lowering: Lowering, op: QMatMul) -> None:
    a, b, y = (lowering.place(t) for t in (op.a, op.b, op.output))
    spec = matmul_spec(op, a, b, y)
    expect_i32_sums(lowering, op, spec.depth * MAX_PRODUCT)
    isa = lowering.isa

    def emit(builder: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        isa.machine.matmul(builder, spec, isa, *pointers)

    lowering.call("matmul", spec, (a.start, b.start, y.start), emit)


def matmul_spec(op: QMatMul, a: Place, b: Place, y: Place) -> MatMulSpec:
    """Of operands and result of any width."""
    *_, rows, columns = y.layout.shape
    return MatMulSpec(
        outer=_outer_axes(a, b, y),
        rows=Axis(rows, a.layout.strides[-2], y.layout.strides[-2]),
        depth=a.layout.shape[-1],
        depth_stride=b.layout.strides[-2],
        columns=columns,
        a_zero_point=op.a_zero_point,
        b_zero_point=op.b_zero_point,
        multiplier=op.multiplier,
        shift=op.shift,
        requantize=op.requantize,
    )


def _outer_axes(a: Place, b: Place, y: Place) -> tuple[tuple[int, int, int, int], ...]:
    """(count, strides) of the leading axes; the stride is 0 in an operand that lacks one."""
    outer = list(y.layout.shape[:-2])
    strides = (_outer(a, outer), _outer(b, outer), y.layout.strides[:-2])
    return tuple(s for s in zip(outer, *strides, strict=True) if s[0] > 1)


def _outer(place: Place, outer: list[int]) -> tuple[int, ...]:
    """The strides of the leading axes, as numpy broadcasts them to `outer`."""
    matrix = place.layout.shape[-2:]
    return broadcast_strides(place.layout, (*outer, *matrix))[:-2]


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QMatMul: lower_matmul,
}
