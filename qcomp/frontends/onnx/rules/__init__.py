"""The table of ONNX operators; each rule is a small function that adds ops for one node."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.frontends.onnx.context import Rule
from qcomp.frontends.onnx.rules import (
    cast,
    elementwise,
    linear,
    logic,
    movement,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    scatter,
    slicing,
    transposed,
)
from qcomp.ir.merged import merged

RULES: Mapping[str, Rule] = merged(
    cast.RULES,
    elementwise.RULES,
    linear.RULES,
    logic.RULES,
    movement.RULES,
    normalization.RULES,
    pooling.RULES,
    quantization.RULES,
    recurrent.RULES,
    reduction.RULES,
    resize.RULES,
    scatter.RULES,
    slicing.RULES,
    transposed.RULES,
)

# Operators that exist only as constants: folded where their operands are known.
FOLDED_ONLY = (
    "Constant",
    "ConstantOfShape",
    "Range",
    "Shape",
    "Size",
)
