"""Small ONNX networks that are run step by step, with caches of keys or of frames as states."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOM = 6
WIDTH = 8


def cache_model(
    *, grown: bool, names: tuple[str, str] = ("past_key", "present_key")
) -> onnx.ModelProto:
    """Attention of one query to a cache of ROOM keys, which are its values too, and to its own; the
    additive mask says which are there. grown: the output is the cache with the new key behind it.
    """
    rng = np.random.default_rng(0)
    past, present = names
    key = "key" if grown else present
    weights = {n: rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 3 for n in ("Wq", "Wk")}
    nodes = [
        helper.make_node("MatMul", ["x", "Wq"], ["q"]),
        helper.make_node("MatMul", ["x", "Wk"], [key]),
        helper.make_node("Concat", [past, key], [present if grown else "all"], axis=1),
        helper.make_node("Transpose", [present if grown else "all"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", present if grown else "all"], ["y"]),
    ]
    shapes = {"x": [1, 1, WIDTH], "mask": [1, 1, ROOM + 1], past: [1, ROOM, WIDTH]}
    given = {"y": [1, 1, WIDTH], present: [1, ROOM + 1 if grown else 1, WIDTH]}
    return _model(nodes, shapes, given, weights)


def frames_model(frames: int) -> onnx.ModelProto:
    """Two convolutions along time, each of which keeps the last frames that it has seen."""
    rng = np.random.default_rng(1)
    weights = {
        "W1": rng.normal(size=(5, 3, 3)).astype(np.float32) / 3,
        "W2": rng.normal(size=(4, 5, 2)).astype(np.float32) / 3,
    }
    nodes, kept = [], {"1": (3, 2), "2": (5, 1)}
    source = "x"
    for number, (_, past) in kept.items():
        ends = {f"from{number}": [frames], f"to{number}": [frames + past], f"axis{number}": [2]}
        weights |= {name: np.array(value) for name, value in ends.items()}
        nodes += [
            helper.make_node("Concat", [f"cache{number}_in", source], [f"c{number}"], axis=2),
            helper.make_node("Slice", [f"c{number}", *ends], [f"cache{number}_out"]),
            helper.make_node("Conv", [f"c{number}", f"W{number}"], [f"f{number}"]),
            helper.make_node("Relu", [f"f{number}"], [f"r{number}"]),
        ]
        source = f"r{number}"
    nodes[-1].output[0] = "y"
    states = {f"cache{n}_in": [1, channels, past] for n, (channels, past) in kept.items()}
    given = {name.replace("_in", "_out"): shape for name, shape in states.items()}
    return _model(nodes, {"x": [1, 3, frames], **states}, {"y": [1, 4, frames], **given}, weights)


def mask_at(step: int) -> np.ndarray:
    """Of the step's own key, and those that are in the cache."""
    there = np.arange(ROOM + 1) < step
    there[-1] = True
    return np.where(there, 0.0, -1e9).astype(np.float32).reshape(1, 1, ROOM + 1)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int]],
    outputs: dict[str, list[int]],
    constants: dict[str, np.ndarray],
) -> onnx.ModelProto:
    def infos(shapes: dict[str, list[int]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ]

    initializers = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "steps", infos(inputs), infos(outputs), initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
