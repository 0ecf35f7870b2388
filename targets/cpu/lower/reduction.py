"""Lowering of reductions over any axes, and of argmax."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from qcomp.errors import TargetError
from qcomp.ir.ops import ArgMax, Op, QAbsMax, QReduceExtreme, QReduceSum
from qcomp.ir.text import format_op
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.folds import (
    KEY_BITS,
    Fold,
    extreme,
    index_of_largest,
    requantized_sum,
)
from qcomp.targets.cpu.emit.reduce import ReduceSpec, emit_reduce, simplified_axes
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, expect_activation, expect_i32_sums

MAX_CENTRED = 255  # |x - zero_point| of two i8


def lower_reduce_sum(lowering: Lowering, op: QReduceSum) -> None:
    shape = lowering.graph.type(op.x).shape
    count = int(np.prod([shape[i] for i in op.axes], dtype=np.int64))
    expect_i32_sums(lowering, op, count * MAX_CENTRED)
    fold = requantized_sum(count, op.x_zero_point, op.multiplier, op.shift, op.requantize)
    key = (op.x_zero_point, op.multiplier, op.shift, op.requantize)
    lower_reduction(lowering, op, op.axes, op.keepdims, fold, key)


def lower_reduce_extreme(lowering: Lowering, op: QReduceExtreme) -> None:
    element = expect_activation(lowering, op)
    lower_reduction(lowering, op, op.axes, op.keepdims, extreme(op.kind, element), op.kind)


def lower_argmax(lowering: Lowering, op: ArgMax) -> None:
    source = expect_activation(lowering, op)
    extent = lowering.graph.type(op.x).shape[op.axis]
    if extent > 1 << KEY_BITS:
        raise TargetError(
            f"{format_op(lowering.graph, op)}\n  argmax over {extent} elements; "
            f"expected at most {1 << KEY_BITS}"
        )
    fold = index_of_largest(extent, last=op.last, source=source)
    lower_reduction(lowering, op, (op.axis,), op.keepdims, fold, op.last)


def lower_reduction(
    lowering: Lowering,
    op: QAbsMax | QReduceSum | QReduceExtreme | ArgMax,
    axes: Sequence[int],
    keepdims: bool,
    fold: Fold,
    key: Hashable,
) -> None:
    x, y = lowering.place(op.x), lowering.place(op.output)
    strides = iter(y.layout.strides)
    kept, reduced = [], []
    for i, (count, stride) in enumerate(zip(x.layout.shape, x.layout.strides, strict=True)):
        if i in axes:
            reduced.append(Axis(count, stride, 0))
            if keepdims:
                next(strides)
        else:
            kept.append(Axis(count, stride, next(strides)))
    # A reduced axis has no result stride, so its neighbours merge by the source alone.
    spec = ReduceSpec(simplified_axes(kept), simplified_axes(reduced))
    lanes = lowering.isa.lanes

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_reduce(b, spec, fold, lanes, *pointers)

    types = fold.source, fold.result
    lowering.call(op.mnemonic, (spec, types, key), (x.start, y.start), emit)


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QReduceSum: lower_reduce_sum,
    QReduceExtreme: lower_reduce_extreme,
    ArgMax: lower_argmax,
}


I16_LOWERINGS: Mapping[type[Op], LowerOp] = {
    QReduceExtreme: lower_reduce_extreme,
    ArgMax: lower_argmax,
}
