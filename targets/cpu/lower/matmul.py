"""Lowering of the product of two activations."""

from __future__ import annotations

from llvmlite import ir

from qcomp.ir.ops import QMatMul
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.gemm import Axis
from qcomp.targets.cpu.emit.matmul import MatMulSpec, emit_matmul
from qcomp.targets.cpu.lower.context import (
    Lowering,
    Place,
    broadcast_strides,
    expect_i32_sums,
)

MAX_PRODUCT = 255**2  # of two centred i8


def lower_matmul(lowering: Lowering, op: QMatMul) -> None:
    """Leading axes broadcast: their stride is 0 in the operand that lacks them."""
    a, b, y = (lowering.place(t) for t in (op.a, op.b, op.output))
    *outer, rows, columns = y.layout.shape
    depth = a.layout.shape[-1]
    expect_i32_sums(lowering, op, depth * MAX_PRODUCT)
    strides = (_outer(a, outer), _outer(b, outer), y.layout.strides[:-2])
    spec = MatMulSpec(
        outer=tuple(s for s in zip(outer, *strides, strict=True) if s[0] > 1),
        rows=Axis(rows, a.layout.strides[-2], y.layout.strides[-2]),
        depth=depth,
        depth_stride=b.layout.strides[-2],
        columns=columns,
        a_zero_point=op.a_zero_point,
        b_zero_point=op.b_zero_point,
        multiplier=op.multiplier,
        shift=op.shift,
        requantize=op.requantize,
    )
    isa = lowering.isa

    def emit(builder: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_matmul(builder, spec, isa, *pointers)

    lowering.call("matmul", spec, (a.start, b.start, y.start), emit)


def _outer(place: Place, outer: list[int]) -> tuple[int, ...]:
    """The strides of the leading axes, as numpy broadcasts them to `outer`."""
    matrix = place.layout.shape[-2:]
    return broadcast_strides(place.layout, (*outer, *matrix))[:-2]
