"""Functions of two bytes, as tables of all pairs: QLinearAdd, QLinearMul, and floats between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.onnx_rules.grid import expect_bytes, saturation
from qcomp.quant.onnx_functions import (
    I8,
    Pairs,
    pair_table,
    product_table,
    sum_table,
)
from qcomp.quant.qparams import QParams

_FUNCTIONS: Mapping[type[ops.Binary], Pairs] = {
    ops.Sub: np.subtract,
    ops.Div: np.divide,
}


def pair(site: Site, op: ops.Binary) -> ops.Op:
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    expect_bytes(site, op, a, b)
    unsigned = site.is_unsigned(a_id)
    entries = site.constant(f"{op.id}.pairs", _entries(site, op, a, b, unsigned=unsigned))
    return ops.PairTable(inputs=(a_id, b_id, entries), output=site.output)


def _entries(site: Site, op: ops.Binary, a: QParams, b: QParams, *, unsigned: bool) -> I8:
    y, (low, high) = site.qparams, saturation(site, op.clamp)
    if isinstance(op, ops.Add):
        return sum_table(a, b, y, low, high, unsigned=unsigned)
    if isinstance(op, ops.Mul):
        return product_table(a, b, y, low, high)
    return pair_table(_FUNCTIONS[type(op)], a, b, y, low, high)


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Add: pair,
    ops.Sub: pair,
    ops.Mul: pair,
    ops.Div: pair,
}
