"""All ops, and the table from mnemonic to type that the text parser reads."""

from __future__ import annotations

from collections.abc import Iterator

from qcomp.ir.ops.base import (
    NO_CLAMP,
    RELU,
    RELU6,
    ClampRange,
    Domain,
    Op,
    Operand,
    broadcast_shapes,
)
from qcomp.ir.ops.dynamic import QDenseBy, QuantizeBy, ScaleOf
from qcomp.ir.ops.elementwise import (
    Add,
    Binary,
    Clamp,
    Div,
    Function,
    Maximum,
    Minimum,
    Mul,
    PRelu,
    Sub,
    Unary,
)
from qcomp.ir.ops.integer import IntegerOp
from qcomp.ir.ops.integer_elementwise import (
    Interpolate,
    QAdd,
    QAddWide,
    QBinary,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QRescale,
    Table,
)
from qcomp.ir.ops.integer_linear import QConv2d, QDense, QMatMul, QWeighted
from qcomp.ir.ops.integer_reduction import (
    QAveragePool2d,
    QLogSoftmax,
    QReduceExtreme,
    QReduceSum,
    QSoftmax,
)
from qcomp.ir.ops.linear import BatchNorm, Conv2d, Dense, MatMul, Weighted
from qcomp.ir.ops.movement import (
    BlockOrder,
    BroadcastTo,
    Concat,
    Coordinates,
    DepthToSpace,
    Gather,
    Movement,
    NearestRounding,
    Pad,
    PadMode,
    Reshape,
    Resize2d,
    ResizeMode,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
    ZeroStuff,
)
from qcomp.ir.ops.quantization import (
    Dequantize,
    FakeQuantConstant,
    IntegerConstant,
    Quantize,
    QuantizedConstant,
)
from qcomp.ir.ops.reduction import (
    ArgMax,
    AveragePool2d,
    LogSoftmax,
    MaxPool2d,
    Reduce,
    Reduction,
    Softmax,
)


def _concrete(cls: type[Op]) -> Iterator[type[Op]]:
    if "mnemonic" in cls.__dict__:
        yield cls
    for sub in cls.__subclasses__():
        yield from _concrete(sub)


OPS: dict[str, type[Op]] = {cls.mnemonic: cls for cls in _concrete(Op)}

__all__ = [
    "NO_CLAMP",
    "OPS",
    "RELU",
    "RELU6",
    "Add",
    "ArgMax",
    "AveragePool2d",
    "BatchNorm",
    "Binary",
    "BlockOrder",
    "BroadcastTo",
    "Clamp",
    "ClampRange",
    "Concat",
    "Conv2d",
    "Coordinates",
    "Dense",
    "DepthToSpace",
    "Dequantize",
    "Div",
    "Domain",
    "FakeQuantConstant",
    "Function",
    "Gather",
    "IntegerConstant",
    "IntegerOp",
    "Interpolate",
    "LogSoftmax",
    "MatMul",
    "MaxPool2d",
    "Maximum",
    "Minimum",
    "Movement",
    "Mul",
    "NearestRounding",
    "Op",
    "Operand",
    "PRelu",
    "Pad",
    "PadMode",
    "QAdd",
    "QAddWide",
    "QAveragePool2d",
    "QBinary",
    "QConv2d",
    "QDense",
    "QDenseBy",
    "QDiv",
    "QLogSoftmax",
    "QMatMul",
    "QMaximum",
    "QMinimum",
    "QMul",
    "QPRelu",
    "QReduceExtreme",
    "QReduceSum",
    "QRescale",
    "QSoftmax",
    "QWeighted",
    "Quantize",
    "QuantizeBy",
    "QuantizedConstant",
    "Reduce",
    "Reduction",
    "Reshape",
    "Resize2d",
    "ResizeMode",
    "ScaleOf",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Sub",
    "Table",
    "Tile",
    "Transpose",
    "Unary",
    "Weighted",
    "ZeroStuff",
    "broadcast_shapes",
]
