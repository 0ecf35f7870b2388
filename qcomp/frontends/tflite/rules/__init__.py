"""The table of TFLite's operators; each rule is a small function that adds ops for one of them."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.frontends.tflite.context import Rule
from qcomp.frontends.tflite.rules import elementwise, linear, movement, pooling, recurrent
from qcomp.ir.merged import merged

RULES: Mapping[str, Rule] = merged(
    elementwise.RULES, linear.RULES, movement.RULES, pooling.RULES, recurrent.RULES
)
TO_FLOAT = "DEQUANTIZE"
