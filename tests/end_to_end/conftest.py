"""Small ONNX networks, and what every compiled network must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compiled_once import CompiledOnce
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import qcomp

Array = NDArray[Any]
FAST = qcomp.QuantizationConfig(recipe="fast")  # for tests that don't ask what "auto" would choose
Shapes = Mapping[str, Sequence[int | str] | None]


class Models:
    """Builds models of opset 17."""

    node = staticmethod(helper.make_node)

    def build(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Shapes,
        outputs: Shapes,
        constants: Mapping[str, Array] | None = None,
        output_type: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, output_type, s) for n, s in outputs.items()],
            [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])

    def dense(self, batch: int | str = 1) -> onnx.ModelProto:
        """x[batch,4] times a 4x3 matrix, and a Relu."""
        weight = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
        nodes = [self.node("MatMul", ["x", "w"], ["m"]), self.node("Relu", ["m"], ["y"])]
        return self.build(nodes, {"x": [batch, 4]}, {"y": [batch, 3]}, {"w": weight})

    def two_in_two_out(self) -> onnx.ModelProto:
        nodes = [self.node("Add", ["a", "b"], ["sum"]), self.node("Mul", ["a", "b"], ["product"])]
        shape = [1, 5]
        return self.build(nodes, {"a": shape, "b": shape}, {"sum": shape, "product": shape})

    def conv_with_batch_norm(self) -> onnx.ModelProto:
        random = np.random.default_rng(2)
        constants = {
            "w": random.normal(size=(4, 2, 3, 3)).astype(np.float32),
            "gamma": random.uniform(0.5, 1.5, 4).astype(np.float32),
            "beta": random.normal(size=4).astype(np.float32),
            "mean": random.normal(size=4).astype(np.float32),
            "var": random.uniform(0.5, 1.5, 4).astype(np.float32),
        }
        nodes = [
            self.node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            self.node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"]),
            self.node("Relu", ["n"], ["y"]),
        ]
        return self.build(nodes, {"x": [1, 2, 6, 6]}, {"y": [1, 4, 6, 6]}, constants)

    @staticmethod
    def samples(count: int, *shape: int, seed: int = 0) -> list[Array]:
        random = np.random.default_rng(seed)
        return [random.normal(size=shape).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="session")
def models() -> Models:
    return Models()


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> CompiledOnce:
    return CompiledOnce(tmp_path_factory)


@pytest.fixture(scope="session")
def dense(models: Models) -> qcomp.CompiledNetwork:
    """One input x[1,4], one output y[1,3]."""
    data = models.samples(8, 1, 4)
    return qcomp.compile(models.dense(), calibration=data, config=FAST, name="dense")


@pytest.fixture(scope="session")
def pair(models: Models) -> qcomp.CompiledNetwork:
    """Two inputs a, b and two outputs sum, product, each [1,5]."""
    both = zip(models.samples(8, 1, 5), models.samples(8, 1, 5, seed=1), strict=True)
    data = [{"a": a, "b": b} for a, b in both]
    return qcomp.compile(models.two_in_two_out(), calibration=data, config=FAST, name="pair")


@pytest.fixture(scope="session")
def saved_dense(dense: qcomp.CompiledNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of `dense`; copy it before spoiling it."""
    return dense.save(tmp_path_factory.mktemp("saved") / "dense")
