"""Op type to lowering function. An op that is missing here is an error of the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qcomp.ir import ops
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
