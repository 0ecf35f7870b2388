"""Whether attention becomes one op, which not every target takes."""

from __future__ import annotations

from qcomp.ir.parse import parse
from qcomp.targets.base import Target

_ONE = """graph @one(%q: i8[1,1,1,1] qparams=(1.0, 0, -128, 127)) {
  %table = constant : i16[32]
  %y = q_attention(%q, %q, %q, %table) {q_zero_point=0, v_zero_point=0, product_shift=0, \
score_shift=0, multiplier=1, probability_bits=8, down=8, numerator=1, shift=1, zero_point=0, \
bits=8, ahead=0} : i8[1,1,1,1] qparams=(1.0, 0, -128, 127)
  return y=%y
}"""


def knows_attention(target: Target) -> bool:
    """Whether a target takes an attention of one number."""
    graph = parse(_ONE)
    (op,) = graph.ops()
    return target.supports(graph, op) is None
