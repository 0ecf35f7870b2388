"""Lowering of resampling: nearest is an indexed copy, linear has its own kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops import Op, QResize2d, Resize2d, ResizeMode
from qcomp.quant.resample import fixed_point_weights, linear_weights, nearest_indices
from qcomp.quant.tflite_resize import BITS
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.resize import ResizeSpec, emit_resize_linear
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, expect_activation, offsets
from qcomp.targets.cpu.lower.movement import copy


def lower_resize2d(lowering: Lowering, op: Resize2d) -> None:
    if op.mode is ResizeMode.NEAREST:
        _nearest(lowering, op)
    else:
        _linear(lowering, op)


def _nearest(lowering: Lowering, op: Resize2d) -> None:
    src, dst = lowering.place(op.x), lowering.place(op.output)
    tables = []
    for i in (0, 1):
        extent, stride = src.layout.shape[1 + i], src.layout.strides[1 + i]
        indices = nearest_indices(
            extent, op.size[i], op.scale[i], op.coordinates.value, op.rounding.value
        )
        tables.append(lowering.constant(offsets(indices, stride)))
    copy(
        lowering, dst.layout.shape, src.start, src.layout.strides, dst.start, dst.layout.strides,
        element=src.layout.element, indexed=((1, 0), (2, 0)), tables=tuple(tables),
    )  # fmt: skip


def lower_q_resize2d(lowering: Lowering, op: QResize2d) -> None:
    layout = lowering.place(op.x).layout
    tables = []
    for i, id in enumerate((op.rows, op.columns)):
        table = lowering.graph.data(id).copy()
        table[:, :2] *= layout.strides[1 + i]
        tables.append(table)
    _by_tables(lowering, op, tables, weight_bits=BITS, away=True)


def _linear(lowering: Lowering, op: Resize2d) -> None:
    _by_tables(lowering, op, [_linear_table(lowering, op, i) for i in (0, 1)])


def _by_tables(
    lowering: Lowering, op: Resize2d | QResize2d, tables: list[NDArray[np.int32]], **rounding: Any
) -> None:
    element = expect_activation(lowering, op)
    src, dst = lowering.place(op.x), lowering.place(op.output)
    n, rows, columns, channels = dst.layout.shape
    batch_step, row_step, column_step, _ = dst.layout.strides
    spec = ResizeSpec(
        batch=Axis(n, src.layout.strides[0], batch_step),
        rows=Axis(rows, 0, row_step),
        columns=Axis(columns, 0, column_step),
        channels=channels,
        element=element,
        **rounding,
    )
    lanes = lowering.isa.lanes

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...], begin: Value, end: Value) -> None:
        emit_resize_linear(b, spec, lanes, Span(begin, end), *pointers)

    addresses = (src.start, dst.start, *map(lowering.constant, tables))
    lowering.ranged("resize_linear", spec, addresses, emit, n * rows)


def _linear_table(lowering: Lowering, op: Resize2d, i: int) -> NDArray[np.int32]:
    """Per result position along H or W: offsets of both neighbours, Q11 weight of the second."""
    layout = lowering.place(op.x).layout
    extent, stride = layout.shape[1 + i], layout.strides[1 + i]
    i0, i1, w1 = linear_weights(extent, op.size[i], op.scale[i], op.coordinates.value)
    entries = np.stack([i0 * stride, i1 * stride, fixed_point_weights(w1)], axis=1)
    return entries.astype(np.int32)


LOWERINGS: Mapping[type[Op], LowerOp] = {
    Resize2d: lower_resize2d,
    QResize2d: lower_q_resize2d,
}

I16_LOWERINGS = LOWERINGS
