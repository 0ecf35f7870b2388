"""Certify that no integer sum can overflow, from the actual weights, biases and ranges.

Per channel of a convolution or dense layer (DESIGN section 3.2)

    |bias| + sum_k |w_k| * max(|qmin - zero_point|, |qmax - zero_point|) + rounding < 2^31

with rounding = 2^(shift-1) in the NARROW form, which adds it to the accumulator, 2^8 (of 16 bits
2^16) in the TFLITE form, behind its shift to the left, for the zero point, and 0 in the others.
Sums without weights are bounded by their number of terms; additions by their multipliers, in the
width of their lanes. Multipliers and shifts must be those that the form's own proof assumes.

With 16-bit values sums have 64 bits (those of a layer with weights where its bias has). There the
product of the WIDE form is what must fit, per channel:

    |acc| * multiplier + 2^(shift-1) < 2^63
The choosers of scales and constants see to all of this beforehand, so a failure here is a defect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.errors import PassError
from qcomp.ir.exemptions import exemption
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.text import format_op
from qcomp.passes.events import PassLog
from qcomp.passes.lib.integer_rules import NO_SUMS, SUMS
from qcomp.passes.lib.sums import Sums


@dataclass(frozen=True)
class CertifyAccumulators:
    """See the module."""

    name: ClassVar[str] = "certify-accumulators"
    needs: ClassVar[Form] = Form.INTEGER
    gives: ClassVar[Form] = Form.INTEGER

    def run(self, graph: Graph, log: PassLog) -> None:
        problems: list[str] = []
        for op in graph.ops():
            sums = _sums(graph, op)
            if sums is None:
                continue
            found = [*sums.problems()]
            if found:
                problems.append("\n  ".join([format_op(graph, op), *found]))
            else:
                bits = sums.head_room()
                log.note(f"{op.id}: {bits:.1f} bits of head-room", op=op.id, bits=bits)
        if problems:
            raise PassError("accumulators are not certified:\n" + "\n".join(problems))


def _sums(graph: Graph, op: Op) -> Sums | None:
    """The largest sums of an op; None for one that needs no certificate; else PassError."""
    if type(op) in SUMS:
        return SUMS[type(op)](graph, op)
    if exemption(NO_SUMS, type(op)) is None:
        raise PassError(
            f"{format_op(graph, op)}\n  nothing bounds its sums; "
            "expected a row in SUMS, or a line in NO_SUMS, of integer_rules"
        )
    return None
