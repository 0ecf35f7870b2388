"""Numbers of TVM: constants, casts, choices, quotients, calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qcomp.targets.tvm.api import MISSING

if MISSING is None:
    from tvm import ir, te, tirx

Expr = Any  # of TVM: a number


def const(value: int, dtype: str) -> Expr:
    return tirx.const(value, dtype)


def cast(x: Expr, dtype: str) -> Expr:
    return x.astype(dtype)


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """a where the condition holds, else b; both are computed."""
    return tirx.Select(condition, a, b)


def guarded(condition: Expr, a: Expr, b: Expr) -> Expr:
    """The same, but a is computed only where the condition holds: a load that may be outside."""
    return tirx.if_then_else(condition, a, b)


def all_of(conditions: Sequence[Expr]) -> Expr:
    return tirx.all(*conditions)


def minimum(a: Expr, b: Expr) -> Expr:
    return tirx.min(a, b)


def maximum(a: Expr, b: Expr) -> Expr:
    return tirx.max(a, b)


def number(x: Expr) -> Expr:
    """An element of a tensor as an expression like others."""
    return x.asobject() if isinstance(x, te.tensor.TensorSlice) else x


def type_of(x: Expr) -> str:
    return str(number(x).ty.dtype)


def let(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """body(value), which reads the value several times and computes it once."""
    value = number(value)
    variable = tirx.Var("v", value.ty)
    return tirx.Let(variable, value, body(variable))


def quotient(a: Expr, b: Expr) -> Expr:
    """a / b, cut; of numbers that are not negative also the floor."""
    return tirx.truncdiv(a, b)


def floor_quotient(a: Expr, b: Expr) -> Expr:
    return tirx.floordiv(a, b)


def remainder(a: Expr, b: Expr) -> Expr:
    return tirx.floormod(a, b)


def function_of_c(dtype: str, name: str, *arguments: Expr) -> Expr:
    """A call of a function that the source defines, which has no effects."""
    return tirx.call_pure_extern(dtype, name, *arguments)


def vector_function(dtype: str, name: str, *arguments: Expr) -> Expr:
    """The same of a function that is defined for vectors of the types too, element by element."""
    known = f"tirx.{name}"
    if known not in ir.Op.list_op_names():
        ir._ffi_api.RegisterOp(known, "a function that the source defines")
        ir.register_op_attr(known, "TCallEffectKind", _PURE)
        ir.register_op_attr(known, "TVectorizable", True)
        for attribute in ("TGlobalSymbol", "TScriptPrinterName"):
            ir.register_op_attr(known, attribute, name)
    return tirx.call_intrin(dtype, known, *arguments)


_PURE = 1  # of TVM's kinds of effects
