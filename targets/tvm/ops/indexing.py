"""Indices of operands that broadcast, and of elements that may lie outside."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.tvm.api.expressions import Expr, all_of, const, guarded
from qcomp.targets.tvm.api.tensors import Tensor, dtype_of, shape_of


def broadcast(tensor: Tensor, indices: Sequence[Expr]) -> Expr:
    """The element that numpy's broadcasting takes for the indices of a result."""
    shape = shape_of(tensor)
    own = indices[len(indices) - len(shape) :]
    return tensor[
        tuple(const(0, "int32") if e == 1 else i for e, i in zip(shape, own, strict=True))
    ]


def inside(indices: Sequence[Expr], shape: Sequence[int], checked: Sequence[bool]) -> list[Expr]:
    """The conditions under which those of the indices that are checked lie in a shape."""
    return [
        condition
        for index, extent, check in zip(indices, shape, checked, strict=True)
        if check
        for condition in (index >= 0, index < extent)
    ]


def padded(tensor: Tensor, indices: Sequence[Expr], checked: Sequence[bool], value: int) -> Expr:
    """The element, or `value` outside; only the axes that are checked have an outside."""
    conditions = inside(indices, shape_of(tensor), checked)
    element = tensor[tuple(indices)]
    if not conditions:
        return element
    return guarded(all_of(conditions), element, const(value, dtype_of(tensor)))
