"""Scales that are found at run time: a maximum, one division for it, and products of 16 bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.sums import BoundSums, Ints, Sums
from qcomp.quant.dynamic_constants import NORMALIZED, scale_up_constants


def abs_max(site: Site, op: ops.AbsMax) -> ops.Op:
    x_id, x = site.operand(op.x)
    if x != site.qparams:
        raise PassError(f"%{op.id}: qparams {site.qparams}; expected those of %{x_id}, {x}")
    return ops.QAbsMax(inputs=(x_id,), output=site.output, axes=op.axes)


def scale_down(site: Site, op: ops.ScaleDown) -> ops.Op:
    if site.qparams != NORMALIZED:
        raise PassError(f"%{op.id}: qparams {site.qparams}; expected {NORMALIZED}")
    (x_id, x), (scale_id, scale) = site.operand(op.x), site.operand(op.scale)
    if x != scale:
        raise PassError(f"%{op.id}: qparams of %{x_id} and %{scale_id} differ: {x}, {scale}")
    return ops.QScaleDown(inputs=(x_id, scale_id), output=site.output)


def scale_up(site: Site, op: ops.ScaleUp) -> ops.Op:
    (x_id, x), (scale_id, scale) = site.operand(op.x), site.operand(op.scale)
    bias, shift = scale_up_constants(x, scale, site.qparams, site.graph.data(op.bias))
    qmin, qmax = site.saturation(op.clamp)
    return ops.QScaleUp(
        inputs=(x_id, scale_id, site.constant(op.bias, bias)),
        output=site.output,
        shift=shift,
        qmin=qmin,
        qmax=qmax,
        bits=site.qparams.bits,
    )


def scale_up_sums(graph: Graph, op: ops.QScaleUp) -> Sums:
    """The products of two values of 16 bits, of which one is not negative, and the bias."""
    bias: Ints = np.abs(graph.data(op.bias).astype(object))
    return Sums(bias + 2**15 * (2**15 - 1))


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.AbsMax: abs_max,
    ops.ScaleDown: scale_down,
    ops.ScaleUp: scale_up,
}

SUMS: Mapping[type[ops.Op], BoundSums] = {ops.QScaleUp: scale_up_sums}

NO_SUMS: Exemptions = {
    ops.QAbsMax: "takes one of its values",
    ops.QScaleDown: "multiplies numbers below 2^15 twice, whatever its operands are",
}
