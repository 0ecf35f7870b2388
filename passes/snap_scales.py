"""Move weight scales so that requantize multipliers are exact.

The narrow requantize multiplies by m * 2^-(k + 15) with an m of 10 bits. A weight scale s is ours
to choose: the nearest one with scale_x * s / scale_y of that very form is at most 2^-10 away, and
then the multiplier has no error at all (DESIGN section 3.1). The bias scale follows. Layers with 16
bits on either side requantize with a multiplier of 22 bits or more and have nothing to gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.ir.tensor import constant
from qcomp.passes.events import PassLog
from qcomp.passes.lib.qdq import (
    operand_qparams,
    result_qparams,
    rounded_constant,
    why_not_rounded,
)
from qcomp.quant.weights import snapped_scales


@dataclass(frozen=True)
class SnapScales:
    """See the module."""

    name: ClassVar[str] = "snap-scales"
    needs: ClassVar[Form] = Form.QDQ
    gives: ClassVar[Form] = Form.QDQ

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if not isinstance(op, Weighted):
                continue
            if reason := _unmovable(graph, op):
                log.skipped(op.id, reason)
            else:
                _snap(graph, op, log)


def _unmovable(graph: Graph, op: Weighted) -> str | None:
    """The reason these scales must stay as they are, or None."""
    if reason := why_not_rounded(graph, op.weight) or why_not_rounded(graph, op.bias):
        return reason
    weight, bias = rounded_constant(graph, op.weight), rounded_constant(graph, op.bias)
    for shared in (weight.scale, bias.scale, weight.output, bias.output):
        if len(graph.consumers(shared)) > 1:
            return f"%{shared} is shared with another op"
    if 16 in (operand_qparams(graph, op.x).bits, result_qparams(graph, op.output).bits):
        return "16 bits are requantized wide"
    return None


def _snap(graph: Graph, op: Weighted, log: PassLog) -> None:
    weight, bias = rounded_constant(graph, op.weight), rounded_constant(graph, op.bias)
    x_scale = operand_qparams(graph, op.x).scale
    y_scale = result_qparams(graph, op.output).scale
    before = graph.data(weight.scale)
    after = snapped_scales(before, x_scale, y_scale)
    graph.update_tensor(constant(weight.scale, after))
    graph.update_tensor(constant(bias.scale, after * x_scale))
    move = np.abs(after / before - 1.0).max()
    log.did(f"{op.id}: largest move {move:.2e}", op=op.id, move=move)
