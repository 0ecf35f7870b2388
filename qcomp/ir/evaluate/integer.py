"""The table from integer op to its exact meaning in numpy: the specification of generated code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcomp.ir.evaluate import dynamic
from qcomp.ir.evaluate import integer_elementwise as elementwise
from qcomp.ir.evaluate import integer_linear as linear
from qcomp.ir.evaluate import integer_reduction as reduction
from qcomp.ir.ops.base import Op
from qcomp.ir.ops.dynamic import QDenseBy, QuantizeBy, ScaleOf
from qcomp.ir.ops.integer_elementwise import (
    Interpolate,
    QAdd,
    QAddWide,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QRescale,
    Table,
)
from qcomp.ir.ops.integer_linear import QConv2d, QDense, QMatMul
from qcomp.ir.ops.integer_reduction import (
    QAveragePool2d,
    QLogSoftmax,
    QReduceExtreme,
    QReduceSum,
    QSoftmax,
)
from qcomp.ir.tensor import Array

IntegerMeaning = Callable[..., Array]
"""meaning(op, *operands) with the operands, constants included, in the order of op.inputs."""

INTEGER_MEANINGS: Mapping[type[Op], IntegerMeaning] = {
    QConv2d: linear.q_conv2d,
    QDense: linear.q_dense,
    QMatMul: linear.q_matmul,
    QAdd: elementwise.q_add,
    QAddWide: elementwise.q_add_wide,
    QMul: elementwise.q_mul,
    QDiv: elementwise.q_div,
    QMinimum: elementwise.q_minimum,
    QMaximum: elementwise.q_maximum,
    Table: elementwise.table,
    QRescale: elementwise.q_rescale,
    Interpolate: elementwise.interpolate,
    QPRelu: elementwise.q_prelu,
    QAveragePool2d: reduction.q_average_pool2d,
    QReduceSum: reduction.q_reduce_sum,
    QReduceExtreme: reduction.q_reduce_extreme,
    QSoftmax: reduction.q_softmax,
    QLogSoftmax: reduction.q_log_softmax,
    ScaleOf: dynamic.scale_of,
    QuantizeBy: dynamic.quantize_by,
    QDenseBy: dynamic.q_dense_by,
}
