"""Op to lowering function. An op type that is missing here is an error of the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qcomp.ir import ops
from qcomp.ir.graph import Graph
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

LOWERINGS: Mapping[type[ops.Op], LowerOp] = {
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
    ops.QRescale: i16_elementwise.lower_rescale,
    ops.Interpolate: i16_elementwise.lower_interpolate,
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
    ops.QAveragePool2d: pooling.lower_average_pool2d,
    ops.QReduceSum: reduction.lower_reduce_sum,
    ops.QReduceExtreme: reduction.lower_reduce_extreme,
    ops.QSoftmax: softmax.lower_softmax,
    ops.QLogSoftmax: softmax.lower_log_softmax,
    ops.ArgMax: reduction.lower_argmax,
}

# The ops that work on 16 bits in another way than on 8; the others move or compare any elements.
_I16_LOWERINGS: Mapping[type[ops.Op], LowerOp] = {
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
    ops.QAveragePool2d: i16_reduction.lower_average_pool2d,
    ops.QReduceSum: i16_reduction.lower_reduce_sum,
    ops.QSoftmax: i16_softmax.lower_softmax,
    ops.QLogSoftmax: i16_softmax.lower_log_softmax,
}


def refusal(op: ops.Op) -> str | None:
    """Why an op has no code; None where it has."""
    if type(op) in LOWERINGS:
        return None
    names = ", ".join(sorted(cls.mnemonic for cls in LOWERINGS))
    return f"{op.mnemonic} has no lowering; accepted: {names}"


def lowering_of(graph: Graph, op: ops.Op) -> LowerOp:
    """By the op's type and the types of its operands and result."""
    general = LOWERINGS[type(op)]
    return _I16_LOWERINGS.get(type(op), general) if is_i16(graph, op) else general
