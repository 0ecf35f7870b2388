"""Small float networks whose weights have very unequal channels."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import RELU, ClampRange, Conv2d, Dense, Op
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.moments import Moments, RunningMoments

F32 = NDArray[np.float32]


class Net:
    """A float graph whose weights have very unequal channels."""

    def __init__(self, channels: int = 4, seed: int = 0) -> None:
        self.graph = Graph("net")
        self.rng = np.random.default_rng(seed)
        self.last = self.graph.add_input("x", TensorType(DType.F32, (1, 6, 6, channels)))

    @property
    def channels(self) -> int:
        return self.graph.type(self.last).shape[-1]

    def unequal(self, *shape: int) -> F32:
        rows = 10.0 ** self.rng.uniform(-1, 1, (shape[0], *(1,) * (len(shape) - 1)))
        return (rows * self.rng.normal(size=shape)).astype(np.float32)

    def conv(
        self,
        output: str,
        outputs: int,
        groups: int = 1,
        clamp: ClampRange = RELU,
        kernel: int = 3,
    ) -> Net:
        weight = self.unequal(outputs, kernel, kernel, self.channels // groups)
        w = self.graph.add_constant(f"{output}.w", weight)
        b = self.graph.add_constant(f"{output}.b", self.unequal(outputs))
        op = Conv2d(
            inputs=(self.last, w, b),
            output=output,
            padding=(kernel // 2,) * 4,
            groups=groups,
            clamp=clamp,
        )
        return self.then(op)

    def dense(self, output: str, outputs: int) -> Net:
        w = self.graph.add_constant(f"{output}.w", self.unequal(outputs, self.channels))
        b = self.graph.add_constant(f"{output}.b", self.unequal(outputs))
        return self.then(Dense(inputs=(self.last, w, b), output=output))

    def then(self, op: Op) -> Net:
        self.last = self.graph.add_op(op)
        return self

    def returning(self, *others: TensorId) -> Graph:
        self.graph.outputs = {t: t for t in (self.last, *others)}
        return self.graph

    def constant(self, hint: str, values: object) -> TensorId:
        return self.graph.add_constant(hint, np.array(values, np.float32))


def inputs_of(graph: Graph) -> dict[str, F32]:
    rng = np.random.default_rng(1)
    return {
        name: rng.normal(size=graph.type(t).shape).astype(np.float32)
        for name, t in graph.inputs.items()
    }


def moments_of(graph: Graph) -> dict[TensorId, Moments]:
    """Measured on one random input."""
    found = {}
    for id, value in evaluate_all(graph, inputs_of(graph)).items():
        running = RunningMoments()
        running.update(value)
        found[id] = running.moments()
    return found


def assert_same_function(before: Graph, after: Graph) -> None:
    x = inputs_of(before)
    expected = evaluate(before, x)
    for name, y in evaluate(after, x).items():
        assert_allclose(y, expected[name], rtol=1e-5, atol=1e-5 * np.abs(expected[name]).max())
