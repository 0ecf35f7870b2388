"""Small ONNX models of one recurrent layer, with any of its attributes, and inputs of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import TensorProto
from onnx.helper import make_tensor_value_info

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
INPUTS = ("x", "W", "R", "B", "lengths", "h0", "c0", "P")


@dataclass(frozen=True)
class Layer:
    """`given` names inputs of INPUTS beyond the weights; `constant` those that are initializers."""

    kind: str
    given: tuple[str, ...] = ("B",)
    constant: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("Y", "Y_h", "Y_c")
    steps: int = 6
    batch: int = 1
    size: int = 5
    hidden: int = 7
    spread: float = 0.4
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def directions(self) -> int:
        return 2 if self.attributes.get("direction") == "bidirectional" else 1

    def arrays(self, seed: int) -> dict[str, np.ndarray]:
        """Of all operands; inputs vary with the seed, and weights do not."""
        rows, count = GATES[self.kind] * self.hidden, self.directions
        weights, values = np.random.default_rng(7), np.random.default_rng([11, seed])
        state = [count, self.batch, self.hidden]
        x = [self.steps, self.batch, self.size]
        if self.attributes.get("layout"):
            state[:2], x[:2] = state[1::-1], x[1::-1]
        found = {
            "W": weights.normal(0, self.spread, (count, rows, self.size)),
            "R": weights.normal(0, self.spread, (count, rows, self.hidden)),
            "B": weights.normal(0, self.spread, (count, 2 * rows)),
            "P": weights.normal(0, self.spread, (count, 3 * self.hidden)),
            "x": values.normal(0, 1, x),
            "h0": values.uniform(-0.9, 0.9, state),
            "c0": values.normal(0, 1, state),
        }
        lengths = values.integers(0, self.steps + 1, self.batch).astype(np.int32)
        return {**{k: v.astype(np.float32) for k, v in found.items()}, "lengths": lengths}

    def feed(self, seed: int) -> dict[str, np.ndarray]:
        arrays = self.arrays(seed)
        given = [n for n in ("x", *self.given) if n not in ("B", "P", *self.constant)]
        return {name: arrays[name] for name in given}

    def model(self) -> onnx.ModelProto:
        arrays, feed = self.arrays(0), self.feed(0)
        names = [n if n in ("x", "W", "R", *self.given) else "" for n in INPUTS]
        outputs = ["Y", "Y_h", "Y_c"][: 3 if self.kind == "LSTM" else 2]
        results = [n if n in self.outputs else "" for n in outputs]
        while not names[-1]:
            names.pop()
        node = onnx.helper.make_node(
            self.kind, names, results, name="layer", hidden_size=self.hidden, **self.attributes
        )
        kinds = {n: TensorProto.INT32 if n == "lengths" else TensorProto.FLOAT for n in feed}
        graph = onnx.helper.make_graph(
            [node],
            "recurrent",
            [make_tensor_value_info(n, kinds[n], a.shape) for n, a in feed.items()],
            [make_tensor_value_info(n, TensorProto.FLOAT, None) for n in results if n],
            [onnx.numpy_helper.from_array(arrays[n], n) for n in names if n and n not in feed],
        )
        opsets = [onnx.helper.make_opsetid("", 17)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


HARD = {"activations": ["HardSigmoid", "Softsign", "Tanh"], "activation_alpha": [0.3]}
LAYERS: dict[str, Layer] = {
    f"{kind} {name}": Layer(kind, **fields)
    for name, fields in {
        "plain": {},
        "without biases": {"given": ()},
        "backwards": {"attributes": {"direction": "reverse"}},
        "both ways": {"attributes": {"direction": "bidirectional"}},
        "last state only": {"outputs": ("Y_h",)},
        "states only": {"outputs": ("Y",), "given": ("B", "h0")},
        "initial states": {"given": ("B", "h0", "c0")},
        "constant states": {"given": ("B", "h0", "c0"), "constant": ("h0", "c0")},
        "lengths": {"given": ("B", "lengths"), "batch": 4},
        "lengths both ways": {
            "given": ("B", "lengths", "h0"),
            "batch": 3,
            "attributes": {"direction": "bidirectional"},
        },
        "constant lengths": {"given": ("B", "lengths"), "batch": 3, "constant": ("lengths",)},
        "clip": {"attributes": {"clip": 0.4}},
        "one step": {"steps": 1, "given": ("B", "h0", "c0")},
        "batch": {"batch": 3},
    }.items()
    for kind, skipped in (("LSTM", ()), ("GRU", ("c0",)), ("RNN", ("c0",)))
    for fields in [
        {
            k: tuple(n for n in v if n not in skipped) if k in ("given", "constant") else v
            for k, v in {"given": ("B",), **fields}.items()
        }
    ]
}
LAYERS |= {
    "LSTM peepholes": Layer("LSTM", ("B", "P")),
    "LSTM peepholes and clip": Layer("LSTM", ("B", "P"), attributes={"clip": 0.6}),
    "LSTM coupled gates": Layer("LSTM", attributes={"input_forget": 1}),
    "LSTM coupled gates with peepholes": Layer("LSTM", ("B", "P"), attributes={"input_forget": 1}),
    "LSTM other activations": Layer("LSTM", attributes=HARD),
    "LSTM of ReLU cells": Layer("LSTM", attributes={"activations": ["Sigmoid", "Relu", "Tanh"]}),
    "LSTM of affine results": Layer(
        "LSTM",
        attributes={
            "activations": ["Sigmoid", "Tanh", "Affine"],
            "activation_alpha": [0.8],
            "activation_beta": [0.1],
        },
    ),
    "GRU reset behind": Layer("GRU", attributes={"linear_before_reset": 1}),
    "GRU reset behind both ways": Layer(
        "GRU", attributes={"linear_before_reset": 1, "direction": "bidirectional"}
    ),
    "GRU of ReLU": Layer("GRU", attributes={"activations": ["Sigmoid", "Relu"]}),
    "GRU of ELU": Layer(
        "GRU", attributes={"activations": ["Sigmoid", "Elu"], "activation_alpha": [0.5]}
    ),
    "RNN of ReLU": Layer("RNN", spread=0.25, attributes={"activations": ["Relu"]}),
    "RNN of softplus": Layer("RNN", spread=0.25, attributes={"activations": ["Softplus"]}),
    "RNN leaky": Layer(
        "RNN", spread=0.25, attributes={"activations": ["LeakyRelu"], "activation_alpha": [0.2]}
    ),
}
