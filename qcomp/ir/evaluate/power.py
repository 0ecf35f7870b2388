"""Meanings of the logarithm of a sum of squares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_elementwise import saturated
from qcomp.ir.evaluate.reduction import integer_log
from qcomp.ir.ops import LogPower, Op, QLogPower
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import rounding_shift
from qcomp.quant.qparams import integer_range

FRACTION = 14  # bits of a squared step

F32 = NDArray[np.float32]


def log_power(op: LogPower, a: F32, b: F32) -> F32:
    power = a.astype(np.float64) ** 2 + b.astype(np.float64) ** 2 + op.added
    return np.asarray(np.log(np.maximum(power, op.least)), np.float32)


def q_log_power(op: QLogPower, a: Array, b: Array, log_table: Array) -> Array:
    squares = sum((x.astype(np.int64) - op.x_zero_point) ** 2 for x in (a, b))
    power = np.asarray(squares << FRACTION >> op.down) + op.added
    log = integer_log(np.maximum(power, op.least), log_table)
    q = op.zero_point + rounding_shift(log + op.offset, 16)
    return saturated(q, *integer_range(op.bits), op.bits)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    LogPower: log_power,
    QLogPower: q_log_power,
}
