"""Op to lowering function, by the width of the elements. A missing row is a TargetError.

An op all of whose tensors have 8 bits (or are no activations) takes its row of LOWERINGS; one that
reads or makes an i16 that of I16_LOWERINGS. Ops that move or compare elements of any width stand in
both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qcomp.errors import TargetError
from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions, exemption
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import FLOATS
from qcomp.ir.text import format_op
from qcomp.targets.cpu.lower import (
    concat,
    elementwise,
    linear,
    matmul,
    movement,
    pooling,
    reduction,
    resize,
    softmax,
)
from qcomp.targets.cpu.lower.context import Lowering
from qcomp.targets.cpu.lower.i16 import elementwise as i16_elementwise
from qcomp.targets.cpu.lower.i16 import linear as i16_linear
from qcomp.targets.cpu.lower.i16 import matmul as i16_matmul
from qcomp.targets.cpu.lower.i16 import reduction as i16_reduction
from qcomp.targets.cpu.lower.i16 import softmax as i16_softmax
from qcomp.targets.cpu.lower.i16.types import is_i16

LowerOp = Callable[[Lowering, Any], None]

# The ops that move, compare or rescale elements of any width.
_ANY_WIDTH: Mapping[type[ops.Op], LowerOp] = {
    ops.Reshape: movement.lower_reshape,
    ops.Transpose: movement.lower_transpose,
    ops.Concat: concat.lower_concat,
    ops.Slice: movement.lower_slice,
    ops.Pad: movement.lower_pad,
    ops.Gather: movement.lower_gather,
    ops.BroadcastTo: movement.lower_broadcast_to,
    ops.Tile: movement.lower_tile,
    ops.DepthToSpace: movement.lower_depth_to_space,
    ops.SpaceToDepth: movement.lower_space_to_depth,
    ops.ZeroStuff: movement.lower_zero_stuff,
    ops.Resize2d: resize.lower_resize2d,
    ops.MaxPool2d: pooling.lower_max_pool2d,
    ops.QReduceExtreme: reduction.lower_reduce_extreme,
    ops.ArgMax: reduction.lower_argmax,
    ops.QRescale: i16_elementwise.lower_rescale,
}

LOWERINGS: Mapping[type[ops.Op], LowerOp] = {
    **_ANY_WIDTH,
    ops.QConv2d: linear.lower_conv2d,
    ops.QDense: linear.lower_dense,
    ops.QMatMul: matmul.lower_matmul,
    ops.QAdd: elementwise.lower_binary,
    ops.QAddWide: elementwise.lower_binary,
    ops.QMul: elementwise.lower_binary,
    ops.QDiv: elementwise.lower_binary,
    ops.QMinimum: elementwise.lower_binary,
    ops.QMaximum: elementwise.lower_binary,
    ops.QPRelu: elementwise.lower_prelu,
    ops.Table: elementwise.lower_table,
    ops.QAveragePool2d: pooling.lower_average_pool2d,
    ops.QReduceSum: reduction.lower_reduce_sum,
    ops.QSoftmax: softmax.lower_softmax,
    ops.QLogSoftmax: softmax.lower_log_softmax,
}

_NO_KERNELS: Exemptions = {
    ops.Domain.FLOAT: "the libraries compute with integers only",
    ops.Domain.BORDER: "the libraries take and give integers",
    ops.ScaleOf: "no kernels know a scale that is a tensor",
    ops.QuantizeBy: "no kernels know a scale that is a tensor",
    ops.QDenseBy: "no kernels know a scale that is a tensor",
}
EXEMPT: Exemptions = {**_NO_KERNELS, ops.Interpolate: "its operand has 16 bits"}

I16_LOWERINGS: Mapping[type[ops.Op], LowerOp] = {
    **_ANY_WIDTH,
    ops.QConv2d: i16_linear.lower_conv2d,
    ops.QDense: i16_linear.lower_dense,
    ops.QMatMul: i16_matmul.lower_matmul,
    ops.QAddWide: i16_elementwise.lower_binary,
    ops.QMul: i16_elementwise.lower_binary,
    ops.QDiv: i16_elementwise.lower_binary,
    ops.QMinimum: i16_elementwise.lower_binary,
    ops.QMaximum: i16_elementwise.lower_binary,
    ops.QPRelu: i16_elementwise.lower_prelu,
    ops.Table: i16_elementwise.lower_table,
    ops.Interpolate: i16_elementwise.lower_interpolate,
    ops.QAveragePool2d: i16_reduction.lower_average_pool2d,
    ops.QReduceSum: i16_reduction.lower_reduce_sum,
    ops.QSoftmax: i16_softmax.lower_softmax,
    ops.QLogSoftmax: i16_softmax.lower_log_softmax,
}

I16_EXEMPT: Exemptions = {
    **_NO_KERNELS,
    ops.QAdd: "adds i8 in 16-bit lanes; of i16 QAddWide is made",
}


@dataclass(frozen=True)
class Table:
    """The lowerings of one width of elements."""

    bits: int
    rows: Mapping[type[ops.Op], LowerOp]
    exempt: Exemptions

    def row(self, graph: Graph, op: ops.Op) -> LowerOp:
        """The function that lowers an op; TargetError without one."""
        if reason := self.refusal(op):
            raise TargetError(f"can't lower:\n{format_op(graph, op)}\n  {reason}")
        return self.rows[type(op)]

    def refusal(self, op: ops.Op) -> str | None:
        """The reason why an op has no row, and the ops that have one."""
        if type(op) in self.rows:
            return None
        reason = exemption(self.exempt, type(op)) or "no kernel is written for it"
        names = ", ".join(sorted(cls.mnemonic for cls in self.rows))
        return f"{reason}; with {self.bits} bits it lowers: {names}"


_NARROW = Table(8, LOWERINGS, EXEMPT)
_WIDE = Table(16, I16_LOWERINGS, I16_EXEMPT)


def table_of(graph: Graph, op: ops.Op) -> Table:
    """By the types of the op's operands and result."""
    return _WIDE if is_i16(graph, op) else _NARROW


def lowering_of(graph: Graph, op: ops.Op) -> LowerOp:
    return table_of(graph, op).row(graph, op)


def refusals(graph: Graph) -> list[str]:
    """The line of each op that can't be lowered as it stands, with the reason."""
    found = ((op, refusal(graph, op)) for op in graph.ops())
    return [f"{format_op(graph, op)}\n  {reason}" for op, reason in found if reason]


def refusal(graph: Graph, op: ops.Op) -> str | None:
    """The reason why an op can't be lowered as it stands; None where it can."""
    if isinstance(op, ops.QWeighted) and op.weight_zero_point is not None:
        return "no kernels know weights with a zero point; expected symmetric ones"
    if any(graph.type(t).dtype in FLOATS for t in (*op.inputs, op.output)):
        return _NO_KERNELS[ops.Domain.FLOAT]
    return table_of(graph, op).refusal(op)
