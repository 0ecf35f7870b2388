"""From accumulators to activations: the forms of qcomp.quant.fixed_point as expressions.

No form has a float: ONNX's product of two float32 is computed from their mantissas, in C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qcomp.quant.fixed_point import I32, Form, Requantize
from qcomp.targets.tvm.api.expressions import Expr, function_of_c, maximum, select, type_of
from qcomp.targets.tvm.arithmetic import (
    clamp,
    doubling_high_mul,
    i32,
    i64,
    mulhrs,
    rounded_quotient,
    rounding_divide_by_pot,
    rounding_shift,
)

DTYPES = {8: "int8", 16: "int16"}

Number = Expr | int
Channel = Callable[[Expr], Number]  # what a parameter is of a channel


@dataclass(frozen=True)
class Factor:
    """Multiplier and shift of one channel; numbers where all channels have the same."""

    multiplier: Number
    shift: Number


def requantize(acc: Expr, factor: Factor, q: Requantize) -> Expr:
    """An accumulator, i32 or i64, as i8 or i16."""
    scaled = RESCALED[q.form](acc, factor)
    return saturated(scaled + _like(q.zero_point, scaled), q.qmin, q.qmax, q.bits)


def saturated(x: Expr, qmin: int, qmax: int, bits: int = 8) -> Expr:
    return clamp(x, qmin, qmax).astype(DTYPES[bits])


def _like(value: int, x: Expr) -> Expr:
    return i32(value) if type_of(x) == "int32" else i64(value)


def _narrow(acc: Expr, factor: Factor) -> Expr:
    """In 32 bits: the certificate has the rounding in the accumulator."""
    shift = factor.shift if isinstance(factor.shift, int) else i32(factor.shift)
    short = clamp(rounding_shift(i32(acc), shift), -(2**15), 2**15 - 1)
    return mulhrs(short, i32(factor.multiplier))


def _wide(acc: Expr, factor: Factor) -> Expr:
    shift = factor.shift if isinstance(factor.shift, int) else i64(factor.shift)
    return rounding_shift(i64(acc) * i64(factor.multiplier), shift)


def _tflite(acc: Expr, factor: Factor) -> Expr:
    shift = i64(factor.shift)
    left, right = maximum(shift, i64(0)), maximum(i64(0) - shift, i64(0))
    shifted = i64(i32(i64(acc) << left))  # what leaves 32 bits is cut
    return rounding_divide_by_pot(doubling_high_mul(shifted, i64(factor.multiplier)), right)


def _away(acc: Expr, factor: Factor) -> Expr:
    """A negative product is one less before it is rounded up at halves."""
    product = i64(acc) * i64(factor.multiplier)
    shift = factor.shift if isinstance(factor.shift, int) else i64(factor.shift)
    return rounding_shift(product - select(product < i64(0), i64(1), i64(0)), shift)


def _onnx(acc: Expr, factor: Factor) -> Expr:
    """The multiplier is the bits of a float32 that is not negative."""
    return function_of_c("int64", "qcomp_float_product", i64(acc), i64(factor.multiplier))


def _quotient(acc: Expr, factor: Factor) -> Expr:
    return rounded_quotient(i64(acc), i64(factor.multiplier))


RESCALED: Mapping[Form, Callable[[Expr, Factor], Expr]] = {
    Form.NARROW: _narrow,
    Form.WIDE: _wide,
    Form.TFLITE: _tflite,
    Form.AWAY: _away,
    Form.ONNX: _onnx,
    Form.QUOTIENT: _quotient,
}


def uniform(values: I32) -> int | None:
    """The one value that all channels have, if there is one."""
    flat = np.unique(values)
    return int(flat[0]) if flat.size == 1 else None
