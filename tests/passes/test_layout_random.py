"""Random graphs: whatever the layout passes do, the function, the outputs and the form stay."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU,
    Add,
    ArgMax,
    Clamp,
    Concat,
    Dense,
    Function,
    Gather,
    MatMul,
    MaxPool2d,
    Mul,
    Pad,
    PRelu,
    Reduce,
    Reduction,
    Reshape,
    Slice,
    Softmax,
    Tile,
    Transpose,
    Unary,
)
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.passes.base import Pass, run_pass
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.fold_constants import FoldConstants

MAX_SIZE = 512


class Grower:
    """Adds ops that fit to a graph; each draws what it needs."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.graph = Graph("random")
        self.rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
        self.values: list[TensorId] = []

    def shape(self, x: TensorId) -> tuple[int, ...]:
        return self.graph.type(x).shape

    def fresh(self, name: str) -> TensorId:
        return self.graph.fresh_id(name)

    def constant(self, shape: tuple[int, ...]) -> TensorId:
        return self.graph.add_constant("c", self.rng.normal(size=shape).astype(np.float32))

    def axis(self, x: TensorId) -> int:
        return self.data.draw(st.integers(0, len(self.shape(x)) - 1))

    def transpose(self, x: TensorId) -> TensorId:
        permutation = tuple(self.data.draw(st.permutations(range(len(self.shape(x))))))
        op = Transpose(inputs=(x,), output=self.fresh("t"), permutation=permutation)
        return self.graph.add_op(op)

    def spatial(self, x: TensorId) -> TensorId:
        """As the importer writes it: to NHWC, an op of that layout, and back."""
        if len(self.shape(x)) != 4:
            return x
        to = self.graph.add_op(
            Transpose(inputs=(x,), output=self.fresh("n"), permutation=(0, 2, 3, 1))
        )
        pool = MaxPool2d(inputs=(to,), output=self.fresh("p"), kernel=(2, 2), padding=(0, 1, 1, 0))
        back = Transpose(
            inputs=(self.graph.add_op(pool),), output=self.fresh("b"), permutation=(0, 3, 1, 2)
        )
        return self.graph.add_op(back)

    def unary(self, x: TensorId) -> TensorId:
        if self.data.draw(st.booleans()):
            return self.graph.add_op(Clamp(inputs=(x,), output=self.fresh("r"), clamp=RELU))
        op = Unary(inputs=(x,), output=self.fresh("u"), function=Function.SIGMOID)
        return self.graph.add_op(op)

    def binary(self, x: TensorId) -> TensorId:
        shape = self.shape(x)
        partners = [v for v in self.values if self.shape(v) == shape]
        start = self.data.draw(st.integers(0, len(shape)))
        thinned = tuple(self.data.draw(st.sampled_from([1, e])) for e in shape[start:])
        other = self.data.draw(st.sampled_from([*partners, self.constant(thinned)]))
        op = self.data.draw(st.sampled_from([Add, Mul]))
        operands = (x, other) if self.data.draw(st.booleans()) else (other, x)
        return self.graph.add_op(op(inputs=operands, output=self.fresh("a")))

    def gate(self, x: TensorId) -> TensorId:
        """x times a mean of itself, of the same or of a lower rank."""
        axes = tuple(self.data.draw(st.sets(st.integers(0, len(self.shape(x)) - 1))))
        keep = self.data.draw(st.booleans())
        mean = Reduce(
            inputs=(x,), output=self.fresh("m"), kind=Reduction.MEAN, axes=axes, keepdims=keep
        )
        gate = self.graph.add_op(mean)
        if not keep and axes != tuple(range(len(axes))):
            return gate
        return self.graph.add_op(Mul(inputs=(x, gate), output=self.fresh("g")))

    def prelu(self, x: TensorId) -> TensorId:
        slope = self.constant(self.shape(x)[-1:])
        return self.graph.add_op(PRelu(inputs=(x, slope), output=self.fresh("q")))

    def concat(self, x: TensorId) -> TensorId:
        axis = self.axis(x)
        partners = [v for v in self.values if self.shape(v) == self.shape(x)]
        other = self.data.draw(st.sampled_from([*partners, self.constant(self.shape(x))]))
        if 2 * math.prod(self.shape(x)) > MAX_SIZE:
            return x
        return self.graph.add_op(Concat(inputs=(x, other), output=self.fresh("k"), axis=axis))

    def cut(self, x: TensorId) -> TensorId:
        axis, shape = self.axis(x), list(self.shape(x))
        starts, steps = [0] * len(shape), [1] * len(shape)
        starts[axis] = self.data.draw(st.integers(0, shape[axis] - 1))
        steps[axis] = self.data.draw(st.sampled_from([1, 2]))
        shape[axis] = (shape[axis] - starts[axis] + steps[axis] - 1) // steps[axis]
        op = Slice(
            inputs=(x,),
            output=self.fresh("s"),
            starts=tuple(starts),
            sizes=tuple(shape),
            steps=tuple(steps),
        )
        return self.graph.add_op(op)

    def gather(self, x: TensorId) -> TensorId:
        axis = self.axis(x)
        indices = self.data.draw(
            st.lists(st.integers(0, self.shape(x)[axis] - 1), min_size=1, max_size=4)
        )
        constant = self.graph.add_constant("i", np.array(indices, np.int64))
        return self.graph.add_op(Gather(inputs=(x, constant), output=self.fresh("h"), axis=axis))

    def pad(self, x: TensorId) -> TensorId:
        if math.prod(self.shape(x)) * 4 > MAX_SIZE or not self.shape(x):
            return x
        amounts = [0] * len(self.shape(x))
        amounts[self.axis(x)] = 1
        op = Pad(
            inputs=(x,), output=self.fresh("d"), before=tuple(amounts), after=(0,) * len(amounts)
        )
        return self.graph.add_op(op)

    def tile(self, x: TensorId) -> TensorId:
        if math.prod(self.shape(x)) * 2 > MAX_SIZE:
            return x
        repeats = [1] * len(self.shape(x))
        repeats[self.axis(x)] = 2
        return self.graph.add_op(Tile(inputs=(x,), output=self.fresh("w"), repeats=tuple(repeats)))

    def reshape(self, x: TensorId) -> TensorId:
        """Merge two axes, split one, or add or drop an axis of extent 1."""
        shape = list(self.shape(x))
        axis = self.axis(x)
        kind = self.data.draw(st.sampled_from(["merge", "split", "add", "drop"]))
        if kind == "merge" and axis + 1 < len(shape):
            shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
        elif kind == "split":
            part = next((p for p in (2, 3) if shape[axis] % p == 0), 1)
            parts = [part, shape[axis] // part]
            shape[axis : axis + 1] = parts if self.data.draw(st.booleans()) else parts[::-1]
        elif kind == "add":
            shape.insert(axis, 1)
        elif shape[axis] == 1 and len(shape) > 1:
            del shape[axis]
        if len(shape) > 6:
            return x
        op = Reshape(inputs=(x,), output=self.fresh("v"), shape=tuple(shape))
        return self.graph.add_op(op)

    def shuffle(self, x: TensorId) -> TensorId:
        axis, shape = self.axis(x), self.shape(x)
        if shape[axis] % 2 or len(shape) > 5:
            return x
        split = (*shape[:axis], 2, shape[axis] // 2, *shape[axis + 1 :])
        order = list(range(len(split)))
        order[axis : axis + 2] = [axis + 1, axis]
        v = self.graph.add_op(Reshape(inputs=(x,), output=self.fresh("f"), shape=split))
        t = Transpose(inputs=(v,), output=self.fresh("f"), permutation=tuple(order))
        v = self.graph.add_op(t)
        return self.graph.add_op(Reshape(inputs=(v,), output=self.fresh("f"), shape=shape))

    def dense(self, x: TensorId) -> TensorId:
        shape = self.shape(x)
        if self.data.draw(st.booleans()):
            rows = self.data.draw(st.sampled_from([1, shape[0]]))
            flat = (rows, math.prod(shape) // rows)
            x = self.graph.add_op(Reshape(inputs=(x,), output=self.fresh("l"), shape=flat))
        weight, bias = self.constant((3, self.shape(x)[-1])), self.constant((3,))
        return self.graph.add_op(Dense(inputs=(x, weight, bias), output=self.fresh("y")))

    def softmax(self, x: TensorId) -> TensorId:
        return self.graph.add_op(Softmax(inputs=(x,), output=self.fresh("z"), axis=self.axis(x)))

    def gram(self, x: TensorId) -> TensorId:
        shape = self.shape(x)
        if len(shape) < 2:
            return x
        order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
        if math.prod(shape[:-1]) * shape[-2] > MAX_SIZE:
            return x
        t = Transpose(inputs=(x,), output=self.fresh("o"), permutation=order)
        return self.graph.add_op(MatMul(inputs=(x, self.graph.add_op(t)), output=self.fresh("o")))

    def grow(self) -> Graph:
        extents = st.sampled_from([1, 2, 3, 4])
        for name in ("x", "y")[: self.data.draw(st.integers(1, 2))]:
            shape = tuple(self.data.draw(st.lists(extents, min_size=4, max_size=4)))
            self.values.append(self.graph.add_input(name, TensorType(DType.F32, shape)))
        steps: list[Callable[[TensorId], TensorId]] = [
            self.transpose, self.spatial, self.spatial, self.unary, self.binary, self.gate,
            self.prelu, self.concat, self.cut, self.gather, self.pad, self.tile, self.reshape,
            self.reshape, self.shuffle, self.dense, self.softmax, self.gram,
        ]  # fmt: skip
        for _ in range(self.data.draw(st.integers(1, 14))):
            recent = self.values[-4:]
            x = self.data.draw(st.sampled_from(recent))
            if not self.shape(x):
                continue
            self.values.append(self.data.draw(st.sampled_from(steps))(x))
        results = [v for v in dict.fromkeys(self.values) if self.graph.producer(v) is not None]
        ends = [v for v in results if not self.graph.consumers(v)] or results
        if not ends:
            ends = [self.unary(self.values[0])]
        if len(results) > 2 and self.data.draw(st.booleans()):
            ends.append(self.data.draw(st.sampled_from(results)))
        if self.shape(ends[0]) and self.data.draw(st.booleans()):
            axis = self.axis(ends[0])
            op = ArgMax(
                inputs=(ends[0],),
                output=self.fresh("j"),
                axis=axis,
                keepdims=self.data.draw(st.booleans()),
            )
            self.values.append(self.graph.add_op(op))
        for i, end in enumerate(dict.fromkeys(ends)):
            self.graph.outputs[f"out{i}"] = end
        self.graph.sweep()
        return self.graph


def check(before: Graph, passes: list[Pass], seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = {
        name: rng.normal(size=before.type(t).shape).astype(np.float32)
        for name, t in before.inputs.items()
    }
    expected = evaluate(before, inputs)
    graph = before
    for p in passes:
        graph, _ = run_pass(graph, p)
        actual = evaluate(graph, inputs)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-5)
        again, _ = run_pass(graph, p)
        assert str(again) == str(graph), f"{p.name} is not idempotent"


@pytest.mark.sweep(150)
@given(data=st.data())
def test_layouts_are_canonicalized_without_changing_the_function(data: st.DataObject) -> None:
    grower = Grower(data)
    check(grower.grow(), [CanonicalizeLayout()], seed=1)


@pytest.mark.sweep(100)
@given(data=st.data())
def test_folding_and_layout_together_keep_the_function(data: st.DataObject) -> None:
    grower = Grower(data)
    check(grower.grow(), [FoldConstants(), CanonicalizeLayout()], seed=2)
