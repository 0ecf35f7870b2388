"""Float op to integer op: one rule each, and the table of them.

A rule gets the site (the graph and the id of the quantized result) and the float op, and gives
the integer op that takes the quantize's place. `ValueError` from the choosers of constants means
that the scales admit no exact integer form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions
from qcomp.passes.lib.integer_rules import binary, linear, movement, reduction, unary
from qcomp.passes.lib.integer_rules.site import Site
from qcomp.passes.lib.integer_rules.unary import rescale

__all__ = ["EXEMPT", "RULES", "Site", "rescale"]

RULES: Mapping[type[ops.Op], Callable[[Site, Any], ops.Op]] = {
    ops.Conv2d: linear.conv2d,
    ops.Dense: linear.dense,
    ops.MatMul: linear.matmul,
    ops.Add: binary.add,
    ops.Sub: binary.add,
    ops.Mul: binary.mul,
    ops.Div: binary.div,
    ops.Minimum: binary.extreme,
    ops.Maximum: binary.extreme,
    ops.Unary: unary.unary,
    ops.Clamp: unary.clamp,
    ops.PRelu: unary.prelu,
    ops.AveragePool2d: reduction.average_pool2d,
    ops.Reduce: reduction.reduce,
    ops.Softmax: reduction.softmax,
    ops.LogSoftmax: reduction.log_softmax,
    ops.MaxPool2d: movement.movement,
    ops.Reshape: movement.movement,
    ops.Transpose: movement.movement,
    ops.Concat: movement.movement,
    ops.Slice: movement.movement,
    ops.Pad: movement.movement,
    ops.Gather: movement.movement,
    ops.BroadcastTo: movement.movement,
    ops.Tile: movement.movement,
    ops.Resize2d: movement.movement,
    ops.DepthToSpace: movement.movement,
    ops.SpaceToDepth: movement.movement,
    ops.ZeroStuff: movement.movement,
}

EXEMPT: Exemptions = {
    ops.Domain.INTEGER: "is an integer op already",
    ops.Domain.BORDER: "belongs to the operands and results of the ops that have rules",
    ops.ArgMax: "reads integers as they are; its result is no activation",
    ops.BatchNorm: "is folded, or a convolution, before activations are quantized",
}
