"""Saturation of results as ONNX Runtime computes it, and the width that it has integers for."""

from __future__ import annotations

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.passes.lib.integer_rules.site import Site
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams


def saturation(site: Site, clamp: ops.ClampRange) -> tuple[int, int]:
    """[qmin, qmax] of the result after the clamp: quotients of float32, half to even."""
    return site.saturation(clamp, _f32_steps)


def _f32_steps(bound: float, scale: float) -> float:
    return float(np.rint(np.float32(bound) / np.float32(scale)))


def requantize(site: Site, clamp: ops.ClampRange = ops.NO_CLAMP) -> Requantize:
    return Requantize(Form.ONNX, site.qparams.zero_point, *saturation(site, clamp))


def expect_bytes(site: Site, op: ops.Op, *operands: QParams) -> None:
    """PassError where an operand or the result has 16 bits."""
    if site.is_wide(*operands):
        raise PassError(
            f"{op.id}: ONNX Runtime computes {op.mnemonic} of 16 bits in floats; expected 8 bits, "
            "or arithmetic='native'"
        )
