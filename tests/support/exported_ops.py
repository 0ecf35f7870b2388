"""Ops with the attributes that exporters must say, each as the only op of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU,
    RELU6,
    AbsMax,
    Activation,
    Add,
    ArgMax,
    Attention,
    BatchNorm,
    BlockOrder,
    BroadcastTo,
    Clamp,
    ClampRange,
    Concat,
    Conv2d,
    Dense,
    DepthToSpace,
    Div,
    Function,
    Gather,
    Gru,
    LogPower,
    LogSoftmax,
    Lstm,
    Mask,
    MatMul,
    Maximum,
    MaxPool2d,
    Minimum,
    Mul,
    Normalize,
    Op,
    Pad,
    PadMode,
    PRelu,
    Reduce,
    Reduction,
    Reshape,
    Rnn,
    ScaleUp,
    Slice,
    Softmax,
    Sub,
    Tile,
    Transpose,
    Unattended,
    ZeroStuff,
)
from qcomp.ir.tensor import DType, TensorType

SHAPE = (2, 6, 5, 8)
SEQUENCE = (6, 5, 24)  # steps, samples, sums of gates
RNG = np.random.default_rng(2)
CONSTANTS: Mapping[str, np.ndarray] = {
    "w": RNG.normal(size=(4, 3, 2, 8)).astype(np.float32),
    "w2": RNG.normal(size=(4, 3, 3, 4)).astype(np.float32),
    "depthwise": RNG.normal(size=(16, 3, 3, 1)).astype(np.float32),
    "b": RNG.normal(size=4).astype(np.float32),
    "b16": RNG.normal(size=16).astype(np.float32),
    "c": RNG.normal(size=8).astype(np.float32),
    "positive": RNG.uniform(0.5, 2, 8).astype(np.float32),
    "plane": RNG.normal(size=(6, 1, 8)).astype(np.float32),
    "fc": RNG.normal(size=(4, 8)).astype(np.float32),
    "rows": RNG.normal(size=(8, 3)).astype(np.float32),
    "biases": RNG.choice(np.array([-1e9, -0.5, 0.75], np.float32), (5, 6, 6)),
    "c6": np.array([1, 1, 0, 2, 1, 0], np.float32),
    "d6": np.array([0, 0, 1, 0, 3, 0], np.float32),
    "i": np.array([3, 0, 3], np.int64),
    **{
        f"{name}{hidden}": (RNG.normal(size=shape) / 2).astype(np.float32)
        for hidden in (6, 8, 24)
        for name, shape in {"R": (24, hidden), "h": (5, hidden), "P": (3 * hidden,)}.items()
    },
    "b24": RNG.normal(size=24).astype(np.float32),
    "sizes": np.array([0.0, 2.5], np.float32).reshape(2, 1, 1, 1),
}


def graph_of(op: Op, shape: tuple[int, ...], *, spatial_first: bool) -> Graph:
    graph = Graph("one")
    graph.add_input("x", TensorType(DType.F32, shape))
    if spatial_first:
        graph.add_op(MaxPool2d(inputs=("x",), output="nchw", kernel=(1, 1)))
        op = replace(op, inputs=tuple("nchw" if t == "x" else t for t in op.inputs))
    for name in op.inputs:
        if name in CONSTANTS:
            graph.add_constant(name, CONSTANTS[name])
    graph.outputs["y"] = graph.add_op(op)
    return graph


X = ("x",)
CASES: list[Op] = [
    Conv2d(inputs=("x", "w", "b"), output="y"),
    Conv2d(inputs=("x", "w", "b"), output="y", stride=(2, 1), padding=(2, 0, 1, 1), clamp=RELU6),
    Conv2d(inputs=("x", "w", "b"), output="y", dilation=(2, 3), padding=(0, 3, 2, 0), clamp=RELU),
    Conv2d(inputs=("x", "w2", "b"), output="y", groups=2, padding=(1, 1, 1, 1)),
    Conv2d(inputs=("x", "depthwise", "b16"), output="y", groups=8, stride=(1, 2)),
    Dense(inputs=("x", "fc", "b"), output="y", clamp=ClampRange(-0.5, 0.5)),
    MatMul(inputs=("x", "rows"), output="y"),
    BatchNorm(inputs=("x", "c", "c", "c", "positive"), output="y", eps=1e-3),
    Clamp(inputs=X, output="y"),
    Clamp(inputs=X, output="y", clamp=RELU),
    Clamp(inputs=X, output="y", clamp=ClampRange(high=0.25)),
    Clamp(inputs=X, output="y", clamp=ClampRange(low=-0.25)),
    PRelu(inputs=("x", "c"), output="y"),
    PRelu(inputs=("x", "plane"), output="y"),
    LogPower(inputs=("x", "x"), output="y", added=0.5, least=0.75),
    AbsMax(inputs=X, output="y", axes=(1, 2, 3)),
    AbsMax(inputs=X, output="y", axes=(3,)),
    ScaleUp(inputs=("x", "sizes", "c"), output="y", clamp=RELU),
    *(
        Normalize(
            inputs=("x", "c", "plane"),
            output="y",
            axes=axes,
            centered=centered,
            epsilon=epsilon,
            clamp=clamp,
        )
        for axes, centered, epsilon, clamp in [
            ((1, 2), True, 1e-3, ClampRange()),
            ((3,), False, 0.0, RELU),
            ((0, 2, 3), True, 1e-5, ClampRange(-1, 1)),
        ]
    ),
    Add(inputs=("x", "x"), output="y", clamp=RELU),
    Add(inputs=("x", "plane"), output="y"),
    Sub(inputs=("c", "x"), output="y"),
    Mul(inputs=("x", "c"), output="y", clamp=ClampRange(-1, 1)),
    Div(inputs=("x", "positive"), output="y"),
    Minimum(inputs=("x", "c"), output="y"),
    Maximum(inputs=("plane", "x"), output="y"),
    MaxPool2d(inputs=X, output="y", kernel=(3, 2), stride=(2, 1), padding=(1, 0, 2, 1)),
    MaxPool2d(inputs=X, output="y", kernel=(2, 3), padding=(2, 3, 0, 1)),
    MaxPool2d(inputs=X, output="y", kernel=(2, 2), dilation=(2, 3), padding=(1, 1, 1, 1)),
    Reduce(inputs=X, output="y", kind=Reduction.MEAN, axes=(1, 2)),
    Reduce(inputs=X, output="y", kind=Reduction.MEAN, axes=(2, 1), keepdims=False),
    Reduce(inputs=X, output="y", kind=Reduction.SUM, axes=(1,), keepdims=False),
    Reduce(inputs=X, output="y", kind=Reduction.MAX, axes=(0, 3), keepdims=False),
    Reduce(inputs=X, output="y", kind=Reduction.MIN, axes=(3,)),
    Reduce(inputs=X, output="y", kind=Reduction.SUM, axes=(0, 1, 2, 3), keepdims=False),
    Reduce(inputs=X, output="y", kind=Reduction.MEAN, axes=()),
    Attention(inputs=("x", "x", "x"), output="y", scale=0.4, ahead=1),
    Attention(
        inputs=("x", "x", "x", "biases", "c6", "d6"),
        output="y",
        scale=0.4,
        ahead=5,
        masks=(Mask.ADDED, Mask.ALLOWED, Mask.EXCLUDED),
        unattended=Unattended.ZERO,
    ),
    Softmax(inputs=X, output="y", axis=3),
    Softmax(inputs=X, output="y", axis=1),
    LogSoftmax(inputs=X, output="y", axis=2),
    ArgMax(inputs=X, output="y", axis=3),
    ArgMax(inputs=X, output="y", axis=1, keepdims=False, last=True),
    ArgMax(inputs=X, output="y", axis=3, keepdims=False),
    Reshape(inputs=X, output="y", shape=(2, 240)),
    Transpose(inputs=X, output="y", permutation=(0, 3, 1, 2)),
    Transpose(inputs=X, output="y", permutation=(0, 2, 3, 1)),
    Transpose(inputs=X, output="y", permutation=(3, 1, 0, 2)),
    Transpose(inputs=X, output="y", permutation=(0, 1, 2, 3)),
    Concat(inputs=("x", "x"), output="y", axis=3),
    Concat(inputs=("x", "x", "x"), output="y", axis=1),
    Slice(inputs=X, output="y", starts=(0, 5, 1, 0), sizes=(2, 3, 2, 8), steps=(1, -2, 2, 1)),
    Slice(inputs=X, output="y", starts=(0, 0, 0, 7), sizes=(1, 6, 5, 8), steps=(1, 1, 1, -1)),
    Pad(inputs=X, output="y", before=(0, 1, 2, 0), after=(0, 0, 1, 3), value=-2.5),
    Pad(inputs=X, output="y", before=(0, 5, 1, 0), after=(0, 1, 4, 0), mode=PadMode.REFLECT),
    Pad(inputs=X, output="y", before=(0, 3, 0, 0), after=(0, 1, 7, 2), mode=PadMode.EDGE),
    Pad(inputs=X, output="y", before=(0, 6, 1, 0), after=(0, 1, 5, 0), mode=PadMode.WRAP),
    Gather(inputs=("x", "i"), output="y", axis=3),
    Gather(inputs=("x", "i"), output="y", axis=1),
    BroadcastTo(inputs=X, output="y", shape=(3, 2, 6, 5, 8)),
    Tile(inputs=X, output="y", repeats=(1, 2, 1, 3)),
    DepthToSpace(inputs=X, output="y", block=2),
    DepthToSpace(inputs=X, output="y", block=2, order=BlockOrder.CRD),
    ZeroStuff(inputs=X, output="y", stride=(2, 3), value=0.5),
    ZeroStuff(inputs=X, output="y", stride=(1, 1)),
]
SIGMOID, TANH = Activation(Function.SIGMOID), Activation(Function.TANH)
RECURRENT: list[Op] = [
    Rnn(inputs=("x", "R24", "b24", "h24"), output="y", activations=(TANH,)),
    Rnn(
        inputs=("x", "R24", "b24", "h24"),
        output="y",
        activations=(Activation(Function.HARD_SIGMOID, 0.3, 0.4),),
        reverse=True,
        clip=0.7,
        tail=True,
    ),
    Gru(inputs=("x", "R8", "b24", "h8"), output="y", activations=(SIGMOID, TANH)),
    Gru(
        inputs=("x", "R8", "b24", "h8"),
        output="y",
        activations=(SIGMOID, Activation(Function.LEAKY_RELU, 0.0)),
        linear_before_reset=True,
    ),
    Lstm(
        inputs=("x", "R6", "b24", "h6", "h6", "P6"),
        output="y",
        activations=(SIGMOID, TANH, Activation(Function.ELU, 0.5)),
        tail=True,
    ),
    Lstm(
        inputs=("x", "R6", "b24", "h6", "h6", "P6"),
        output="y",
        activations=(SIGMOID, TANH, TANH),
        coupled=True,
    ),
]
"""Their operand has the shape SEQUENCE."""
