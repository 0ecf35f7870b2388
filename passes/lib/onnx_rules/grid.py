"""Saturation of results as ONNX Runtime computes it, and whether a file's integers have a sign."""

from __future__ import annotations

import math

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.ir.tensor import Mark, TensorId
from qcomp.passes.lib.integer_rules.site import Site
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams


def saturation(site: Site, clamp: ops.ClampRange) -> tuple[int, int]:
    """[qmin, qmax] of the result after the clamp: quotients of float32, half to even."""
    q = site.qparams
    limits = []
    for bound, limit in ((clamp.low, q.qmin), (clamp.high, q.qmax)):
        if math.isfinite(bound):
            steps = float(np.rint(np.float32(bound) / np.float32(q.scale)))
            limit = int(np.clip(steps + q.zero_point, q.qmin, q.qmax))
        limits.append(limit)
    return limits[0], limits[1]


def requantize(site: Site, clamp: ops.ClampRange = ops.NO_CLAMP) -> Requantize:
    return Requantize(Form.ONNX, site.qparams.zero_point, *saturation(site, clamp))


def is_unsigned(site: Site, tensor: TensorId) -> bool:
    """Whether the file has the tensor in bytes without a sign."""
    return Mark.UNSIGNED in site.graph.tensor(tensor).marks


def expect_bytes(site: Site, op: ops.Op, *operands: QParams) -> None:
    """PassError where an operand or the result has 16 bits."""
    if site.is_wide(*operands):
        raise PassError(
            f"{op.id}: ONNX Runtime computes {op.mnemonic} of 16 bits in floats; expected 8 bits, "
            "or arithmetic='native'"
        )
