"""What a file may say: for a session of this process, or for whoever reads ONNX.

ONNX Runtime refuses files of opset 21 with signed zero points when it repeats a pair of
QuantizeLinear and DequantizeLinear, and OpenVINO computes networks of signed activations wrongly,
so a file that leaves has opset 19 and unsigned activations of 8 bits. Those of 16 bits, which ONNX
has from opset 21 on, are ONNX Runtime's own operators there. Its weights have zero points, all 0:
without VNNI ONNX Runtime adds products of u8 and s8 in 16 bits that saturate, unless it is asked
for exact sums, and that needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.quant.qparams import INTEGERS, QParams

CONTRIB = "com.microsoft"
_OPSET_OF_16_BITS = 21
_UNSIGNED = 128  # what is added to integers of 8 bits


@dataclass(frozen=True)
class Dialect:
    """in_callers_units: conversions and tails, which are outside of the graph, are written too."""

    opset: int
    ir_version: int
    unsigned: bool
    in_callers_units: bool

    def zero_point(self, q: QParams) -> Array:
        """Of the type that the integers have."""
        if self.unsigned and q.bits == 8:
            return np.array(q.zero_point + _UNSIGNED, np.uint8)
        return np.array(q.zero_point, INTEGERS[q.bits])

    def zero_points(self, scale: Array, weight: Array) -> tuple[Array, ...]:
        """What is written of those of weights, which are 0, for a scale or one of each channel."""
        is_written = self.unsigned and weight.dtype == np.int8
        return (np.zeros(scale.size, np.int8),) if is_written else ()

    def domain(self, q: QParams) -> str:
        """Whose QuantizeLinear gives these integers."""
        return CONTRIB if q.bits == 16 and self.opset < _OPSET_OF_16_BITS else ""


SESSION = Dialect(opset=21, ir_version=10, unsigned=False, in_callers_units=False)
EXCHANGE = Dialect(opset=19, ir_version=9, unsigned=True, in_callers_units=True)
