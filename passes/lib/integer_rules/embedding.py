"""Look-up of rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.ir.evaluate.embedding import places
from qcomp.ir.exemptions import Exemptions
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.quant.qparams import quantize


def embedding(site: Site, op: ops.Embedding) -> ops.Op:
    """The rows in the scale of the result; where indices are no whole numbers, one for each i8."""
    x, q = site.operand(op.x)
    rows, first = quantize(site.graph.data(op.table), site.qparams), q.zero_point + op.first
    wraps = op.wraps
    if q.scale != 1.0:
        if q.bits != 8:
            raise ValueError(f"indices of 16 bits in steps of {q.scale}; expected whole numbers")
        real = (np.arange(q.qmin, q.qmax + 1) - q.zero_point) * q.scale
        rows = rows[places(np.rint(real).astype(np.intp) - op.first, len(rows), wraps)]
        first, wraps = q.qmin, False
    table = site.constant(op.table, rows)
    return ops.QEmbedding(inputs=(x, table), output=site.output, first=first, wraps=wraps)


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Embedding: embedding,
}

NO_SUMS: Exemptions = {
    ops.QEmbedding: "copies",
}
