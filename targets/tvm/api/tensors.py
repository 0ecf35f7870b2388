"""Tensors of TVM's expressions, and the functions that compute them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from qcomp.targets.tvm.api import MISSING
from qcomp.targets.tvm.api.expressions import Expr

if MISSING is None:
    from tvm import te

Tensor = Any  # of TVM's tensor expressions
Function = Any  # of TVM: a PrimFunc


def placeholder(shape: Sequence[int], dtype: str, number: int) -> Tensor:
    """A tensor that lies in memory; no two of a function have one number."""
    return te.placeholder(tuple(shape), dtype, name=f"buffer{number}")


def compute(shape: Sequence[int], element: Callable[..., Expr], name: str = "t") -> Tensor:
    """The tensor of element(*indices)."""
    return te.compute(tuple(shape), element, name=name)


def axis(extent: int) -> Any:
    """What a sum, or an extreme, runs over; `index_of` it is a number."""
    return te.reduce_axis((0, extent), name="k")


def index_of(axis: Any) -> Expr:
    return axis.var


def total(x: Expr, axes: Sequence[Any]) -> Expr:
    return te.sum(x, axis=list(axes))


def largest(x: Expr, axes: Sequence[Any]) -> Expr:
    return te.max(x, axis=list(axes))


def smallest(x: Expr, axes: Sequence[Any]) -> Expr:
    return te.min(x, axis=list(axes))


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    return tuple(int(extent) for extent in tensor.shape)


def dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype)


def identity(tensor: Tensor) -> Any:
    """What stands for the tensor in a dict; tensors compare as numbers do."""
    return tensor.op


def is_placeholder(tensor: Tensor) -> bool:
    return isinstance(tensor.op, te.PlaceholderOp)


def operands_of(tensor: Tensor) -> list[Tensor]:
    """The tensors that the elements of one are computed from."""
    return list(tensor.op.input_tensors)


def is_reduced(tensor: Tensor) -> bool:
    """Whether its elements are sums or extremes themselves."""
    return bool(len(tensor.op.reduce_axis)) if isinstance(tensor.op, te.ComputeOp) else False


def function(operands: Sequence[Tensor], result: Tensor) -> Function:
    """The function of buffers (*operands, result)."""
    return te.create_prim_func([*operands, result])


def text_of(function: Function) -> str:
    """The same for functions that differ in the numbers of their operands only."""
    numbers: dict[str, str] = {}
    return re.sub(
        r"\bbuffer\d+\b",
        lambda match: numbers.setdefault(match[0], f"buffer{len(numbers)}"),
        str(function.script()),
    )
