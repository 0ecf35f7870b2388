"""The logarithm of a sum of squares."""

from __future__ import annotations

from qcomp.ir.evaluate.power import FRACTION
from qcomp.ir.ops import QLogPower
from qcomp.quant.qparams import integer_range
from qcomp.targets.tvm.api.expressions import Expr, maximum
from qcomp.targets.tvm.api.tensors import Tensor, compute
from qcomp.targets.tvm.arithmetic import i64, rounding_shift
from qcomp.targets.tvm.builder import Builder, Functions
from qcomp.targets.tvm.ops.elementwise import elementwise
from qcomp.targets.tvm.ops.reduction import integer_log
from qcomp.targets.tvm.requantize import saturated


def q_log_power(b: Builder, op: QLogPower) -> Tensor:
    table = b.stored(op.log_table)

    def square(x: Expr) -> Expr:
        centered = i64(x) - i64(op.x_zero_point)
        return centered * centered

    def power(x: Expr, y: Expr) -> Expr:
        squares = (square(x) + square(y)) << i64(FRACTION)
        return maximum((squares >> i64(op.down)) + i64(op.added), i64(op.least))

    shape = b.type(op.output).shape
    log = integer_log(b, b.kernel(elementwise(b, (op.a, op.b), shape, power)), table)

    def element(*i: Expr) -> Expr:
        q = rounding_shift(log[i] + i64(op.offset), 16) + i64(op.zero_point)
        return saturated(q, *integer_range(op.bits), op.bits)

    return compute(shape, element)


FUNCTIONS: Functions = {QLogPower: q_log_power}
