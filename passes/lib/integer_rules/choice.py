"""Comparisons and choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.tensor import Array, TensorId
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.qdq import quantized_operand
from qcomp.quant.qparams import INTEGERS, QParams, quantize

# How a number between two steps is rounded, so that integers compare with it as reals do.
_Rounding = Callable[[Array], Array]
_LOW: Mapping[ops.Relation, _Rounding] = {
    ops.Relation.EQUAL: np.rint,
    ops.Relation.LESS: np.floor,  # c < q holds where floor(c) < q
    ops.Relation.LESS_OR_EQUAL: np.ceil,
}
_HIGH: Mapping[ops.Relation, _Rounding] = {
    ops.Relation.EQUAL: np.rint,
    ops.Relation.LESS: np.ceil,  # q < c holds where q < ceil(c)
    ops.Relation.LESS_OR_EQUAL: np.floor,
}


def compare(site: Site, op: ops.Compare) -> ops.Op:
    """Integers of one scale compare as the reals do; constants are rounded to steps of it."""
    (q,) = {site.operand(t)[1] for t in op.inputs if not site.graph.is_constant(t)}
    a = _compared(site, op.a, q, _LOW[op.relation])
    b = _compared(site, op.b, q, _HIGH[op.relation])
    zero, one = quantize(np.array([0.0, 1.0], np.float32), site.qparams)
    return ops.QCompare(
        inputs=(a, b),
        output=site.output,
        relation=op.relation,
        zero=int(zero),
        one=int(one),
        bits=site.qparams.bits,
    )


def _compared(site: Site, id: TensorId, q: QParams, rounding: _Rounding) -> TensorId:
    """A number beyond the integers of 8 bits is stored in 16, so that it stays beyond them."""
    if not site.graph.is_constant(id):
        return quantized_operand(site.graph, id)
    steps = rounding(site.graph.data(id).astype(np.float64) / q.scale) + q.zero_point
    fits = q.bits == 8 and bool(((steps >= q.qmin) & (steps <= q.qmax)).all())
    dtype = INTEGERS[8 if fits else 16]
    limits = np.iinfo(dtype)
    return site.constant(id, np.clip(steps, limits.min, limits.max).astype(dtype))


def select(site: Site, op: ops.Select) -> ops.Op:
    condition, zero_point = _condition(site, op.condition)
    return ops.QSelect(
        inputs=(condition, *(site.same_scale_operand(t) for t in (op.a, op.b))),
        output=site.output,
        condition_zero_point=zero_point,
    )


def _condition(site: Site, id: TensorId) -> tuple[TensorId, int]:
    """A constant as 0 and 1."""
    if site.graph.is_constant(id):
        return site.constant(id, (site.graph.data(id) != 0).astype(np.int8)), 0
    condition, q = site.operand(id)
    return condition, q.zero_point


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Compare: compare,
    ops.Select: select,
}

NO_SUMS: Exemptions = {
    ops.QCompare: "compares",
    ops.QSelect: "copies",
}
