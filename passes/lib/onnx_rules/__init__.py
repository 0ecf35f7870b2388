"""Float op to integer op with the bits of ONNX Runtime's quantized kernels.

Layers, products of matrices and means are sums of integers times one float32, rounded half to even;
functions of one byte or of two are tables of what float32 gives. tests/frontends compares operators
with ONNX Runtime. Movements copy integers. What ONNX Runtime computes in floats between two integer
operators, and is no function of a byte or two, has the integers of the native arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir import ops
from qcomp.ir.merged import merged
from qcomp.passes.lib import integer_rules
from qcomp.passes.lib.integer_rules.site import IntegerRule
from qcomp.passes.lib.onnx_rules import binary, linear, reduction, unary
from qcomp.passes.lib.onnx_rules.unary import rescale

__all__ = ["RULES", "rescale"]

_EXACT = merged(binary.RULES, linear.RULES, reduction.RULES, unary.RULES)
RULES: Mapping[type[ops.Op], IntegerRule] = {**integer_rules.RULES, **_EXACT}
