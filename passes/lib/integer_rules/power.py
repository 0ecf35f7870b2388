"""The logarithm of a sum of squares: squares in 64 bits, and nothing is rounded before it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from qcomp.ir import ops
from qcomp.ir.evaluate.power import FRACTION
from qcomp.ir.graph import Graph
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.sums import BoundSums, Sums, exact, largest_centered
from qcomp.quant import tables

_UNITS = 2**16  # in a step of the result
_BITS = 46  # of a sum of squares


def log_power(site: Site, op: ops.LogPower) -> ops.Op:
    (a_id, x), (b_id, _) = site.operand(op.a), site.operand(op.b)
    finest = x.scale**2 / 2**FRACTION
    room = 2.0 ** (_BITS - 2)  # for what is added
    down = max(0, math.ceil(math.log2(max(op.added, op.least) / finest / room)))
    unit = finest * 2.0**down  # the real number that 1 stands for
    per_nat = _UNITS / site.qparams.scale
    return ops.QLogPower(
        inputs=(a_id, b_id, site.constant(f"{op.id}.log", tables.log_table_16(per_nat, 0))),
        output=site.output,
        x_zero_point=x.zero_point,
        down=min(down, _BITS - 1),
        added=round(op.added / unit),
        least=max(round(op.least / unit), 1),
        offset=round(per_nat * math.log(unit)),
        zero_point=site.qparams.zero_point,
        bits=site.qparams.bits,
    )


def log_power_sums(graph: Graph, op: ops.QLogPower) -> Sums:
    squares = sum(largest_centered(graph, t, op.x_zero_point) ** 2 for t in (op.a, op.b))
    return Sums(exact(max((squares << FRACTION >> op.down) + op.added, op.least)), bits=_BITS)


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.LogPower: log_power,
}

SUMS: Mapping[type[ops.Op], BoundSums] = {
    ops.QLogPower: log_power_sums,
}
