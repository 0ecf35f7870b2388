"""Movements and max pooling: the same op on integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcomp.ir import ops
from qcomp.passes.lib.integer_rules.site import Site
from qcomp.quant.qparams import quantize


def movement(site: Site, op: ops.Movement | ops.MaxPool2d) -> ops.Op:
    """Keep the op, now on integers; quantize its constant operands, but not its indices."""
    inputs = tuple(
        t if i in op.constant_operands else site.same_scale_operand(t)
        for i, t in enumerate(op.inputs)
    )
    moved = replace(op, inputs=inputs, output=site.output)
    if isinstance(moved, ops.Pad | ops.ZeroStuff):
        value = quantize(np.array([moved.value], np.float32), site.qparams)[0]
        moved = replace(moved, value=float(value))
    return moved
