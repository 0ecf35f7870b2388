"""Lowering of pooling windows."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
from llvmlite import ir

from qcomp.ir.ops import MaxPool2d, QAveragePool2d
from qcomp.targets.cpu.emit.builder import Value, biased
from qcomp.targets.cpu.emit.folds import average_pool, max_pool
from qcomp.targets.cpu.emit.gemm import Axis
from qcomp.targets.cpu.emit.lanes import chunk
from qcomp.targets.cpu.emit.pooling import PoolFold, PoolSpec, WindowAxis, emit_pool
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.lower.context import Lowering, expect_i8
from qcomp.targets.cpu.program import Address


def lower_max_pool2d(lowering: Lowering, op: MaxPool2d) -> None:
    expect_i8(lowering, op)
    spec = _spec(lowering, op, bits=8)
    _pool(lowering, op, spec, (), lambda extra: max_pool(stored=lowering.isa.unsigned), [])


def lower_average_pool2d(lowering: Lowering, op: QAveragePool2d) -> None:
    """Padding that counts makes every window's multiplier the one of all its positions."""
    taps = op.kernel[0] * op.kernel[1]
    multipliers = lowering.graph.data(op.multiplier)
    if op.count_include_pad:
        multipliers = np.full_like(multipliers, multipliers[taps])

    def fold(extra: tuple[Value, ...]) -> PoolFold:
        return average_pool(
            taps, op.x_zero_point, op.shift, op.requantize, extra[0], stored=lowering.isa.unsigned
        )

    key = (op.x_zero_point, op.shift, op.requantize)
    spec = _spec(lowering, op, bits=16)
    _pool(lowering, op, spec, key, fold, [lowering.constant(multipliers)])


def _spec(lowering: Lowering, op: MaxPool2d | QAveragePool2d, bits: int) -> PoolSpec:
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
    return PoolSpec(batch, rows, columns, x.shape[3], chunk(x.shape[3], widest, widest))


def _pool(
    lowering: Lowering,
    op: MaxPool2d | QAveragePool2d,
    spec: PoolSpec,
    key: Hashable,
    fold: Callable[[tuple[Value, ...]], PoolFold],
    extra: list[Address],
) -> None:
    """Pointers of the kernel: source, result, the tables of cut axes, then `extra`."""
    cut = [axis for axis in (spec.rows, spec.columns) if not axis.is_whole]

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...], begin: Value, end: Value) -> None:
        src, dst, *rest = pointers
        if lowering.isa.unsigned:
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
