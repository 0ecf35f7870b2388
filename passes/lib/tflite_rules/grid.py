"""Saturation of results as TensorFlow Lite computes it, and whether its integers had a sign."""

from __future__ import annotations

import math

import numpy as np

from qcomp.ir import ops
from qcomp.ir.tensor import Mark
from qcomp.passes.lib.integer_rules.site import Site
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tflite_constants import f32, round_away


def saturation(site: Site, clamp: ops.ClampRange) -> tuple[int, int]:
    """[qmin, qmax] of the result after the clamp: quotients in float32, half away from zero."""
    q = site.qparams
    limits = []
    for bound, limit in ((clamp.low, q.qmin), (clamp.high, q.qmax)):
        if math.isfinite(bound):
            steps = round_away(f32(f32(bound) / q.scale))
            limit = int(np.clip(steps + q.zero_point, q.qmin, q.qmax))
        limits.append(limit)
    return limits[0], limits[1]


def requantize(site: Site, form: Form, clamp: ops.ClampRange = ops.NO_CLAMP) -> Requantize:
    q = site.qparams
    return Requantize(form, q.zero_point, *saturation(site, clamp), bits=q.bits)


def is_unsigned(site: Site) -> bool:
    """Whether the file has the result in bytes without a sign."""
    return Mark.UNSIGNED in site.graph.tensor(site.output).marks
