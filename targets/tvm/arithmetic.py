"""Integer arithmetic on TVM's expressions: each is the function of its name in qcomp.quant.

What would be long as one expression is a function of C (c/functions.h): the time that TVM takes for
an expression grows with the power of the depth of its lets.
"""

from __future__ import annotations

from collections.abc import Callable

from qcomp.targets.tvm.api.expressions import (
    Expr,
    cast,
    const,
    function_of_c,
    let,
    maximum,
    minimum,
    select,
    type_of,
)

I8, I16, I32, I64 = "int8", "int16", "int32", "int64"


def i32(x: Expr | int) -> Expr:
    return const(x, I32) if isinstance(x, int) else cast(x, I32)


def i64(x: Expr | int) -> Expr:
    return const(x, I64) if isinstance(x, int) else cast(x, I64)


WIDTHS: dict[str, Callable[[Expr | int], Expr]] = {I32: i32, I64: i64}


def same(x: Expr | int, like: Expr) -> Expr:
    """A number of the type of another."""
    return WIDTHS[type_of(like)](x)


def clamp(x: Expr, low: int, high: int) -> Expr:
    return maximum(minimum(x, same(high, x)), same(low, x))


def absolute(x: Expr) -> Expr:
    return select(x < same(0, x), same(0, x) - x, x)


def rounding_shift(x: Expr, shift: Expr | int) -> Expr:
    """x / 2^shift, half up; shift >= 0."""
    if isinstance(shift, int):
        return x if shift == 0 else (x + same(1 << (shift - 1), x)) >> same(shift, x)
    by = same(shift, x)
    return (x + ((same(1, x) << by) >> same(1, x))) >> by


def mulhrs(a: Expr, b: Expr) -> Expr:
    return (a * b + same(1 << 14, a)) >> same(15, a)


def doubling_high_mul(a: Expr, b: Expr) -> Expr:
    """saturating_rounding_doubling_high_mul of numbers of 32 bits in 64."""
    return function_of_c(I64, "qcomp_high_product", a, b)


def rounding_divide_by_pot(x: Expr, exponent: Expr) -> Expr:
    """Ties go away from zero."""

    def rounded(x: Expr) -> Expr:
        mask = (i64(1) << exponent) - i64(1)
        threshold = (mask >> i64(1)) + select(x < i64(0), i64(1), i64(0))
        return (x >> exponent) + select((x & mask) > threshold, i64(1), i64(0))

    return let(x, rounded)


def bit_length(x: Expr) -> Expr:
    """Of an i64 that is not negative."""
    return function_of_c(I64, "qcomp_bit_length", x)


def rounded_quotient(n: Expr, d: Expr) -> Expr:
    """n / d of i64, half away from zero; 0 where d is 0."""
    return function_of_c(I64, "qcomp_quotient", n, d)
