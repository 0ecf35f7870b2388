"""Lowering of pooling windows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import numpy as np

from qcomp.ir.ops import MaxPool2d, Op, QAveragePool2d
from qcomp.quant.fixed_point import I32, Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, Value, biased
from qcomp.targets.cpu.emit.folds import average_pool, max_pool
from qcomp.targets.cpu.emit.lanes import chunk
from qcomp.targets.cpu.emit.pooling import PoolFold, PoolSpec, emit_pool
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.window_axis import WindowAxis
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, expect_activation
from qcomp.targets.cpu.program import Address


def lower_max_pool2d(lowering: Lowering, op: MaxPool2d) -> None:
    element = expect_activation(lowering, op)
    stored = lowering.stores_biased and element == I8
    fold = max_pool(element, stored=stored)
    spec = pool_spec(lowering, op, bits=element.width)
    pool(lowering, op, spec, (), lambda _: fold, [], stored=stored)


def lower_average_pool2d(lowering: Lowering, op: QAveragePool2d) -> None:
    taps, stored = op.kernel[0] * op.kernel[1], lowering.stores_biased
    values = multipliers(lowering, op)
    known = tuple(values.tolist()) if op.form is Form.QUOTIENT else ()

    def fold(extra: tuple[Value, ...]) -> PoolFold:
        return average_pool(
            taps, op.x_zero_point, op.shift, op.requantize, known, extra[0], stored=stored
        )

    key = (op.x_zero_point, op.shift, op.requantize, *known)
    spec = pool_spec(lowering, op, bits=16)
    pool(lowering, op, spec, key, fold, [lowering.constant(values)], stored=stored)


def multipliers(lowering: Lowering, op: QAveragePool2d) -> I32:
    """By the count of taps inside: where padding counts, that of all taps."""
    values: I32 = lowering.graph.data(op.multiplier)
    return np.full_like(values, values[-1]) if op.count_include_pad else values


def pool_spec(lowering: Lowering, op: MaxPool2d | QAveragePool2d, bits: int) -> PoolSpec:
    """`bits` per accumulator decide how many channels one vector holds."""
    x, y = lowering.place(op.x).layout, lowering.place(op.output).layout
    rows, columns = (
        WindowAxis(
            results=y.shape[1 + i],
            size=x.shape[1 + i],
            kernel=op.kernel[i],
            stride=op.stride[i],
            dilation=op.dilation[i],
            before=op.padding[i],
            src=x.strides[1 + i],
            dst=y.strides[1 + i],
        )
        for i in (0, 1)
    )
    batch = Axis(x.shape[0], x.strides[0], y.strides[0])
    widest = lowering.isa.vector_bits // bits
    lanes = chunk(x.shape[3], widest, widest)
    return PoolSpec(batch, rows, columns, x.shape[3], lanes, x.element, y.element)


def pool(
    lowering: Lowering,
    op: MaxPool2d | QAveragePool2d,
    spec: PoolSpec,
    key: Hashable,
    fold: Callable[[tuple[Value, ...]], PoolFold],
    extra: list[Address],
    *,
    stored: bool,
) -> None:
    """Pointers of the kernel: source, result, the tables of cut axes, then `extra`.

    A fold of `stored` works on i8 as value + BIAS, whatever the operands are stored as.
    """
    cut = [axis for axis in (spec.rows, spec.columns) if not axis.is_whole]

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...], begin: Value, end: Value) -> None:
        src, dst, *rest = pointers
        if stored:
            src, dst = biased(src), biased(dst)
        tables = [None if axis.is_whole else rest.pop(0) for axis in (spec.rows, spec.columns)]
        emit_pool(b, spec, fold(tuple(rest)), Span(begin, end), src, dst, *tables)

    arguments = [
        lowering.place(op.x).start,
        lowering.place(op.output).start,
        *(lowering.constant(axis.table()) for axis in cut),
        *extra,
    ]
    units = spec.batch.count * spec.rows.results
    lowering.ranged(op.mnemonic, (spec, key), arguments, emit, units)


LOWERINGS: Mapping[type[Op], LowerOp] = {
    MaxPool2d: lower_max_pool2d,
    QAveragePool2d: lower_average_pool2d,
}


I16_LOWERINGS: Mapping[type[Op], LowerOp] = {
    MaxPool2d: lower_max_pool2d,
}
