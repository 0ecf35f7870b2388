"""Saturation of results as TensorFlow Lite computes it."""

from __future__ import annotations

from qcomp.ir import ops
from qcomp.passes.lib.integer_rules.site import Site
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tflite_constants import f32, round_away


def saturation(site: Site, clamp: ops.ClampRange) -> tuple[int, int]:
    """[qmin, qmax] of the result after the clamp: quotients in float32, half away from zero."""
    return site.saturation(clamp, lambda bound, scale: round_away(f32(f32(bound) / scale)))


def requantize(site: Site, form: Form, clamp: ops.ClampRange = ops.NO_CLAMP) -> Requantize:
    q = site.qparams
    return Requantize(form, q.zero_point, *saturation(site, clamp), bits=q.bits)
