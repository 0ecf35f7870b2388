"""Movements and max pooling: the same op on integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
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


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Reshape: movement,
    ops.Transpose: movement,
    ops.Concat: movement,
    ops.Slice: movement,
    ops.Pad: movement,
    ops.Gather: movement,
    ops.BroadcastTo: movement,
    ops.Tile: movement,
    ops.Resize2d: movement,
    ops.DepthToSpace: movement,
    ops.SpaceToDepth: movement,
    ops.ZeroStuff: movement,
}

NO_SUMS: Exemptions = {
    ops.Reshape: "copies integers",
    ops.Transpose: "copies integers",
    ops.Concat: "copies integers",
    ops.Slice: "copies integers",
    ops.Pad: "copies integers",
    ops.Gather: "copies integers",
    ops.BroadcastTo: "copies integers",
    ops.Tile: "copies integers",
    ops.DepthToSpace: "copies integers",
    ops.SpaceToDepth: "copies integers",
    ops.ZeroStuff: "copies integers",
    ops.QResize2d: "weighs four neighbours by 2^10 twice, at most 3/2 of it: below 2^31, or 2^39",
    ops.Resize2d: "weighs four neighbours by 2^11 twice: at most 2^15 * 2^22, in the lanes it has",
}
