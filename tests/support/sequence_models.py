"""A small network over sequences of any length: convolutions over time, positions, attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CHANNELS, FEATURES, LONGEST = 16, 8, 32
Array = NDArray[np.float32]


def sequence_model(
    *, seed: int = 0, masked: bool = False, by_length: bool = False, feed: bool = False
) -> onnx.ModelProto:
    """x[N, FEATURES, S] to y[N, S, CHANNELS] and the mean m[N, CHANNELS].

    masked: a second input mask[N, 1, S] is added to the scores of keys. by_length: positions are
    divided by the length, and so another constant at each. The largest of them is the first.
    feed: a normalisation and a feed-forward block come behind the attention.
    """
    random = np.random.default_rng(seed)

    def weight(*shape: int) -> Array:
        return (random.normal(size=shape) * 0.3).astype(np.float32)

    constants: dict[str, Any] = {
        "cw": weight(CHANNELS, FEATURES, 3),
        "cb": weight(CHANNELS),
        **{f"{k}w": weight(CHANNELS, CHANNELS) for k in "qkvo"},
        "positions": weight(1, LONGEST, CHANNELS),
        "quarter": np.float32(0.25),
        **{f"i{n}": np.array([n]) for n in range(3)},
    }
    constants["positions"][0, 0, 0] = 2.0
    if feed:
        constants |= {"fw": weight(CHANNELS, 48), "gw": weight(48, CHANNELS)}
        constants["gain"] = np.ones(CHANNELS, np.float32)
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "cw", "cb"], ["c"], pads=[1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        node("Shape", ["t"], ["shape"]),
        node("Slice", ["shape", "i1", "i2", "i0"], ["length"]),
        node("Slice", ["positions", "i0", "length", "i1"], ["p"]),
        node("Cast", ["length"], ["divisor"], to=TensorProto.FLOAT),
        node("Div", ["p", "divisor"], ["near"]),
        node("Add", ["t", "near" if by_length else "p"], ["e"]),
        *(node("MatMul", ["e", f"{k}w"], [k]) for k in "qkv"),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["products"]),
        node("Mul", ["products", "quarter"], ["scores"]),
        *([node("Add", ["scores", "mask"], ["allowed"])] if masked else []),
        node("Softmax", ["allowed" if masked else "scores"], ["weights"], axis=-1),
        node("MatMul", ["weights", "v"], ["a"]),
        node("MatMul", ["a", "ow"], ["o"]),
        node("Add", ["o", "e"], ["s" if feed else "y"]),
        *(_feed_forward() if feed else ()),
        node("ReduceMean", ["y"], ["m"], axes=[1], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, ["N", FEATURES, "S"])]
    if masked:
        inputs.append(value("mask", TensorProto.FLOAT, ["N", 1, "S"]))
    graph = helper.make_graph(
        nodes,
        "sequence",
        inputs,
        [value(name, TensorProto.FLOAT, None) for name in ("y", "m")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _feed_forward() -> list[onnx.NodeProto]:
    """s to y."""
    node = helper.make_node
    return [
        node("LayerNormalization", ["s", "gain"], ["n"], axis=-1),
        node("MatMul", ["n", "fw"], ["f"]),
        node("Sigmoid", ["f"], ["g"]),
        node("Mul", ["f", "g"], ["h"]),
        node("MatMul", ["h", "gw"], ["b"]),
        node("Add", ["b", "s"], ["y"]),
    ]


def sequences(length: int, count: int, *, seed: int = 1) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(1, FEATURES, length)).astype(np.float32) for _ in range(count)]
