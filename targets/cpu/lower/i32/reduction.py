"""Lowering of sums over windows and axes with operands or results of 32 bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.ir.ops import Op, QAveragePool2d, QReduceSum
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.i32.folds import average_pool, requantized_sum
from qcomp.targets.cpu.emit.pooling import PoolFold
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, element_types
from qcomp.targets.cpu.lower.pooling import multipliers, pool, pool_spec
from qcomp.targets.cpu.lower.reduction import lower_reduction


def lower_reduce_sum(lowering: Lowering, op: QReduceSum) -> None:
    shape = lowering.graph.type(op.x).shape
    count = int(np.prod([shape[i] for i in op.axes], dtype=np.int64))
    (source,) = element_types(lowering.graph, op.x)
    key = (op.x_zero_point, op.multiplier, op.shift, op.requantize)
    fold = requantized_sum(source, count, *key)
    lower_reduction(lowering, op, op.axes, op.keepdims, fold, key)


def lower_average_pool2d(lowering: Lowering, op: QAveragePool2d) -> None:
    def fold(extra: tuple[Value, ...]) -> PoolFold:
        return average_pool(op.x_zero_point, op.shift, op.requantize, extra[0])

    key = (op.x_zero_point, op.shift, op.requantize)
    constants = [lowering.constant(multipliers(lowering, op))]
    pool(lowering, op, pool_spec(lowering, op, bits=64), key, fold, constants, stored=False)


I32_LOWERINGS: Mapping[type[Op], LowerOp] = {
    QAveragePool2d: lower_average_pool2d,
    QReduceSum: lower_reduce_sum,
}
