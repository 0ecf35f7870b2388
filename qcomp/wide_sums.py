"""Whether squares that steep functions read have 32 bits, which not every target takes."""

from __future__ import annotations

from qcomp.ir.parse import parse
from qcomp.targets.base import Target

_ONE = """graph @one(%x: i16[1] qparams=(1.0, 0, -32768, 32767)) {
  %y = q_mul(%x, %x) {a_zero_point=0, b_zero_point=0, multiplier=1, shift=1, \
requantize=Requantize(form=wide, zero_point=0, qmin=-2147483648, qmax=2147483647, bits=32)} : \
i32[1] qparams=(1.0, 0, -2147483648, 2147483647)
  return y=%y
}"""


def knows_sums(target: Target) -> bool:
    """Whether a target takes the square of one number as a sum of 32 bits."""
    graph = parse(_ONE)
    (op,) = graph.ops()
    return target.supports(graph, op) is None
