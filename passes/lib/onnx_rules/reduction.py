"""Means: QLinearGlobalAveragePool and QLinearAveragePool.

Of a whole image the sum of integers is multiplied once. A window's mean is the same here; ONNX
Runtime adds the window's float32 values in order, which rounds otherwise where a sum is near a tie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.passes.lib.integer_rules import reduction
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.onnx_rules.grid import expect_bytes, requantize
from qcomp.quant.onnx_functions import factor_bits


def average_pool2d(site: Site, op: ops.AveragePool2d) -> ops.Op:
    _, x = site.operand(op.x)
    expect_bytes(site, op, x)
    taps = op.kernel[0] * op.kernel[1]
    factors = [_mean_bits(x.scale, site.qparams.scale, n) for n in range(1, taps + 1)]
    site.remark = ", one rounding for all of a window"
    constant = site.constant(f"{op.id}.factors", np.array([0, *factors], np.int32))
    return reduction.averaged(site, op, constant, x.zero_point, requantize(site))


def reduce(site: Site, op: ops.Reduce) -> ops.Op:
    if op.kind in (ops.Reduction.MAX, ops.Reduction.MIN):
        return reduction.reduce(site, op)
    x_id, x = site.operand(op.x)
    expect_bytes(site, op, x)
    shape = site.graph.type(x_id).shape
    mean = op.kind is ops.Reduction.MEAN
    count = math.prod(shape[a] for a in op.axes) if mean else 1
    multiplier = _mean_bits(x.scale, site.qparams.scale, count)
    return reduction.summed(site, op, multiplier, 0, requantize(site))


def _mean_bits(x: float, y: float, count: int) -> int:
    """f32(sx / f32(sy * n))."""
    return factor_bits(x, by=float(np.float32(y) * np.float32(count)))


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.AveragePool2d: average_pool2d,
    ops.Reduce: reduce,
}
