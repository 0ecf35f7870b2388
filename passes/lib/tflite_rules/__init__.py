"""Float op to integer op with the bits of TensorFlow Lite's reference kernels.

The rules are LiteRT's, counted against its interpreter (docs/arithmetic.md); tests/frontends/tflite
compares every operator with it. An op without a row has no such arithmetic here, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir import ops
from qcomp.ir.merged import merged
from qcomp.passes.lib.integer_rules.site import IntegerRule
from qcomp.passes.lib.tflite_rules import binary, linear, movement, reduction, unary
from qcomp.passes.lib.tflite_rules.unary import rescale

__all__ = ["RULES", "rescale"]

RULES: Mapping[type[ops.Op], IntegerRule] = merged(
    binary.RULES, linear.RULES, movement.RULES, reduction.RULES, unary.RULES
)
