"""Writes ONNX networks with seeded random weights, in few words.

Weights have the variance 2 / fan-in (He et al., 2015), so values keep their size through the
layers, as they do in trained networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


class Builder:
    """Calling it adds a node: strings are tensors, anything else becomes a constant."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> str:
        (output,) = self.several(op, *inputs, outputs=1, **attributes)
        return output

    def several(self, op: str, *inputs: Any, outputs: int, **attributes: Any) -> list[str]:
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        results = [f"{op}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, names, results, results[0], **attributes))
        return results

    def constant(self, value: Any) -> str:
        """Integers become int64, all else float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        self.constants.append(numpy_helper.from_array(array, f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def normal(self, *shape: int) -> Array:
        return self.random.normal(size=shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))

    def conv(self, x: str, shape: Sequence[int], **attributes: Any) -> str:
        """`shape` is that of the weight, OIHW or OIL; "same" padding unless pads are given."""
        if not {"pads", "auto_pad"} & set(attributes):
            attributes["pads"] = [k // 2 for k in shape[2:]] * 2
        return self("Conv", x, self.normal(*shape), self.normal(shape[0]) * 0.1, **attributes)

    def norm(self, x: str, channels: int) -> str:
        gamma, var = self.random.uniform(0.5, 1.5, (2, channels))
        beta, mean = self.random.normal(size=(2, channels)) * 0.2
        return self("BatchNormalization", x, gamma, beta, mean, var)

    def block(self, x: str, shape: Sequence[int], act: str = "Relu", **attributes: Any) -> str:
        """Convolution, batch normalisation and an activation ("" for none)."""
        y = self.norm(self.conv(x, shape, **attributes), shape[0])
        return self.activation(y, act)

    def activation(self, x: str, act: str) -> str:
        if act == "silu":
            return self("Mul", x, self("Sigmoid", x))
        if act == "hard-swish":  # as opsets before 14 write it
            return self("Div", self("Mul", x, self("Clip", self("Add", x, 3.0), 0.0, 6.0)), 6.0)
        if act == "relu6":
            return self("Clip", x, 0.0, 6.0)
        return self(act, x) if act else x

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        weight = self.normal(outputs, inputs)
        return self("Gemm", x, weight, self.normal(outputs) * 0.1, transB=1)

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        """A dense layer over the last axis of any rank."""
        product = self("MatMul", x, self.normal(outputs, inputs).T)
        return self("Add", product, self.normal(outputs) * 0.1)

    def head(self, x: str, channels: int, classes: int = 10) -> str:
        return self.dense(self("Flatten", self("GlobalAveragePool", x)), channels, classes)

    def model(
        self, inputs: dict[str, Sequence[int | str]], outputs: Sequence[str]
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=opsets, ir_version=8), strict_mode=True
        )


@dataclass(frozen=True)
class Network:
    """`write` adds nodes that read the inputs and names the outputs.

    least_sqnr_db: of the outputs, in order, against the float network; measured, less 5 dB.
    """

    write: Callable[..., Sequence[str]]
    shape: tuple[int, ...]
    least_sqnr_db: tuple[float, ...]
    opset: int = 13
    inputs: int = 1

    def build(self) -> onnx.ModelProto:
        builder = Builder(self.opset)
        names = [f"x{i}" for i in range(self.inputs)]
        outputs = self.write(builder, *names)
        return builder.model({name: self.shape for name in names}, outputs)

    def samples(self, count: int, seed: int = 0) -> dict[str, Array]:
        """Smooth data: running means of noise along the last axis."""
        random = np.random.default_rng(seed)
        shape = (count * self.shape[0], *self.shape[1:])
        result = {}
        for i in range(self.inputs):
            noise = random.normal(size=shape)
            smooth = noise + np.roll(noise, 1, axis=-1) + np.roll(noise, 2, axis=-1)
            result[f"x{i}"] = (smooth / np.sqrt(3)).astype(np.float32)
        return result
