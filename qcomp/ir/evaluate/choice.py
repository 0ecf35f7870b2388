"""Meanings of comparisons and choices, of floats and of integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.ops.base import Op
from qcomp.ir.ops.choice import Compare, QCompare, QSelect, Relation, Select
from qcomp.ir.tensor import Array
from qcomp.quant.qparams import INTEGERS

RELATIONS: Mapping[Relation, Callable[[Array, Array], Array]] = {
    Relation.EQUAL: np.equal,
    Relation.LESS: np.less,
    Relation.LESS_OR_EQUAL: np.less_equal,
}


def compare(op: Compare, a: Array, b: Array) -> Array:
    """NaN compares as false."""
    return RELATIONS[op.relation](a, b).astype(np.float32)


def select(op: Select, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition != 0, a, b)


def q_compare(op: QCompare, a: Array, b: Array) -> Array:
    """Of integers of any width; numpy compares i8 with i16 as i16."""
    return np.where(RELATIONS[op.relation](a, b), op.one, op.zero).astype(INTEGERS[op.bits])


def q_select(op: QSelect, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition != op.condition_zero_point, a, b)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Compare: compare,
    Select: select,
    QCompare: q_compare,
    QSelect: q_select,
}
