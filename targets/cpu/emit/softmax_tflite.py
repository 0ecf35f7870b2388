"""Softmax with the bits of TensorFlow Lite: gemmlowp's reciprocal of a sum of exponentials.

Meaning: qcomp.ir.evaluate.reduction (QSoftmax in the form TFLITE). The reciprocal is one of scalars
in 64 bits, once a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.quant.gemmlowp import NEWTON_STEPS, RECIPROCAL_LINE
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    I64,
    Value,
    at,
    i64,
    loop,
    multiple,
    repeat,
    store,
)
from qcomp.targets.cpu.emit.reduce import over_axes
from qcomp.targets.cpu.emit.softmax import SoftmaxSpec, exponential, largest

_SUM_ROUNDING = 1 << 11  # of the 12 bits that an exponential loses before it is added
_MAX = (1 << 31) - 1


def emit_softmax_tflite(
    b: ir.IRBuilder, spec: SoftmaxSpec, src: Value, dst: Value, exp_table: Value
) -> None:
    """The certificate has the sum below 2^31; it is at least 2^19, that of the largest element."""

    def row(x: Value, y: Value) -> None:
        top = largest(b, spec, x)

        def added(i: Value | int, sums: Sequence[Value]) -> Sequence[Value]:
            e = exponential(b, spec, x, i, top, exp_table)
            rounded = b.lshr(b.add(e, ir.Constant(I32, _SUM_ROUNDING)), ir.Constant(I32, 12))
            return [b.add(sums[0], rounded)]

        (total,) = repeat(b, spec.axis.count, [ir.Constant(I32, 0)], added, "sum")
        zeros = b.zext(b.ctlz(total, ir.Constant(ir.IntType(1), 1)), I64)
        scale = _reciprocal(b, b.shl(b.zext(total, I64), b.sub(zeros, i64(1))))
        shift = b.sub(i64(35), zeros)  # 3 and the bits of the sum
        half = b.shl(i64(1), b.sub(shift, i64(1)))

        def element(i: Value | int) -> None:
            e = b.zext(exponential(b, spec, x, i, top, exp_table), I64)
            q = b.sub(b.lshr(b.add(_product(b, scale, e), half), shift), i64(128))
            q = b.select(b.icmp_signed(">", q, i64(127)), i64(127), q)
            store(b, b.trunc(q, I8), at(b, y, multiple(b, i, spec.axis.dst)))

        loop(b, spec.axis.count, element, "element")

    over_axes(b, spec.kept, src, dst, row)
    b.ret_void()


def _reciprocal(b: ir.IRBuilder, half: Value) -> Value:
    """1 / (1 + x) in Q31 of (1 + x) / 2 in Q31: a line, then steps of Newton's method."""
    start, slope = RECIPROCAL_LINE
    r = b.add(i64(start), _product(b, half, i64(slope)))
    for _ in range(NEWTON_STEPS):
        rest = b.sub(i64(1 << 29), _product(b, half, r))
        r = b.add(r, _saturated(b, b.shl(_product(b, r, rest), i64(2))))
    return _saturated(b, b.shl(r, i64(1)))


def _product(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """(x * y + 2^30) >> 31."""
    return b.ashr(b.add(b.mul(x, y), i64(1 << 30)), i64(31))


def _saturated(b: ir.IRBuilder, x: Value) -> Value:
    """To i32."""
    x = b.select(b.icmp_signed(">", x, i64(_MAX)), i64(_MAX), x)
    return b.select(b.icmp_signed("<", x, i64(-_MAX - 1)), i64(-_MAX - 1), x)
