"""The table of ONNX operators; each rule is a small function that adds ops for one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcomp.frontends.onnx.context import Node
from qcomp.frontends.onnx.rules.elementwise import (
    binary,
    clip,
    gelu,
    maximum,
    mean,
    minimum,
    parametric,
    power,
    prelu,
    relu,
    total,
    unary,
)
from qcomp.frontends.onnx.rules.linear import batch_normalization, conv, gemm, matmul
from qcomp.frontends.onnx.rules.movement import (
    cast,
    cast_like,
    concat,
    depth_to_space,
    dropout,
    expand,
    flatten,
    gather,
    identity,
    reshape,
    space_to_depth,
    squeeze,
    tile,
    transpose,
    unsqueeze,
)
from qcomp.frontends.onnx.rules.pooling import (
    average_pool,
    global_average_pool,
    global_max_pool,
    max_pool,
)
from qcomp.frontends.onnx.rules.reduction import LOG_SOFTMAX, SOFTMAX, argmax, reduce
from qcomp.frontends.onnx.rules.resize import resize, upsample
from qcomp.frontends.onnx.rules.slicing import pad, slice_, split
from qcomp.frontends.onnx.rules.transposed import conv_transpose
from qcomp.ir.ops import Add, Div, Function, Mul, Reduction, Sub

Rule = Callable[[Node], None]

RULES: Mapping[str, Rule] = {
    "Abs": unary(Function.ABS),
    "Add": binary(Add),
    "ArgMax": argmax,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "CastLike": cast_like,
    "Ceil": unary(Function.CEIL),
    "Celu": parametric(Function.CELU, alpha=1.0),
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Cos": unary(Function.COS),
    "DepthToSpace": depth_to_space,
    "Div": binary(Div),
    "Dropout": dropout,
    "Elu": parametric(Function.ELU, alpha=1.0),
    "Erf": unary(Function.ERF),
    "Exp": unary(Function.EXP),
    "Expand": expand,
    "Flatten": flatten,
    "Floor": unary(Function.FLOOR),
    "Gather": gather,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "HardSigmoid": parametric(Function.HARD_SIGMOID, alpha=0.2, beta=0.5),
    "HardSwish": unary(Function.HARD_SWISH),
    "Identity": identity,
    "LeakyRelu": parametric(Function.LEAKY_RELU, alpha=0.01),
    "Log": unary(Function.LOG),
    "LogSoftmax": LOG_SOFTMAX,
    "MatMul": matmul,
    "Max": maximum,
    "MaxPool": max_pool,
    "Mean": mean,
    "Min": minimum,
    "Mish": unary(Function.MISH),
    "Mul": binary(Mul),
    "Neg": unary(Function.NEG),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": power,
    "Reciprocal": unary(Function.RECIPROCAL),
    "ReduceMax": reduce(Reduction.MAX),
    "ReduceMean": reduce(Reduction.MEAN),
    "ReduceMin": reduce(Reduction.MIN),
    "ReduceSum": reduce(Reduction.SUM),
    "Relu": relu,
    "Reshape": reshape,
    "Resize": resize,
    "Round": unary(Function.ROUND),
    "Selu": parametric(
        Function.SELU,
        alpha=1.67326319217681884765625,
        beta=1.05070102214813232421875,
        beta_name="gamma",
    ),
    "Sigmoid": unary(Function.SIGMOID),
    "Sign": unary(Function.SIGN),
    "Sin": unary(Function.SIN),
    "Slice": slice_,
    "Softmax": SOFTMAX,
    "Softplus": unary(Function.SOFTPLUS),
    "Softsign": unary(Function.SOFTSIGN),
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Sqrt": unary(Function.SQRT),
    "Squeeze": squeeze,
    "Sub": binary(Sub),
    "Sum": total,
    "Swish": parametric(Function.SILU, alpha=1.0),
    "Tanh": unary(Function.TANH),
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": upsample,
}

# Operators that exist only as constants: folded where their operands are known.
FOLDED_ONLY = (
    "Constant",
    "ConstantOfShape",
    "Range",
    "Shape",
    "Size",
)
