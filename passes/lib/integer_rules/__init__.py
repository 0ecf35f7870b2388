"""Float op to integer op, and the largest sums of the integer op; a module for each kind of op.

A rule gets the site (the graph and the id of the quantized result) and the float op, and gives
the integer op that takes the quantize's place. `ValueError` from the choosers of constants means
that the scales admit no exact integer form. SUMS and NO_SUMS are what certify-accumulators asks.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.merged import merged
from qcomp.passes.lib.integer_rules import (
    attention,
    binary,
    choice,
    dynamic,
    embedding,
    linear,
    movement,
    normalization,
    power,
    recurrent,
    reduction,
    unary,
)
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.integer_rules.unary import rescale
from qcomp.passes.lib.sums import BoundSums

__all__ = ["EXEMPT", "NO_SUMS", "RULES", "SUMS", "Site", "rescale"]

RULES: Mapping[type[ops.Op], IntegerRule] = merged(
    attention.RULES,
    binary.RULES,
    power.RULES,
    choice.RULES,
    dynamic.RULES,
    embedding.RULES,
    linear.RULES,
    movement.RULES,
    recurrent.RULES,
    normalization.RULES,
    reduction.RULES,
    unary.RULES,
)

EXEMPT: Exemptions = {
    ops.Domain.INTEGER: "is an integer op already",
    ops.Domain.BORDER: "belongs to the operands and results of the ops that have rules",
    ops.ArgMax: "reads integers as they are; its result is no activation",
    ops.BatchNorm: "is folded, or a convolution, before activations are quantized",
}

SUMS: Mapping[type[ops.Op], BoundSums] = merged(
    attention.SUMS,
    binary.SUMS,
    dynamic.SUMS,
    linear.SUMS,
    normalization.SUMS,
    power.SUMS,
    recurrent.SUMS,
    reduction.SUMS,
    unary.SUMS,
)

_DOMAINS: Exemptions = {
    ops.Domain.FLOAT: "computes no integers",
    ops.Domain.BORDER: "scales one value and saturates it",
}
NO_SUMS: Exemptions = merged(
    _DOMAINS,
    binary.NO_SUMS,
    choice.NO_SUMS,
    dynamic.NO_SUMS,
    embedding.NO_SUMS,
    movement.NO_SUMS,
    reduction.NO_SUMS,
    unary.NO_SUMS,
)
