"""Channels that dense layers of transformers read are scaled: the same function, in finer steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Add,
    Attention,
    Conv2d,
    Dense,
    Function,
    Normalize,
    Op,
    Reshape,
    Unary,
)
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.lib.averaged_layers import averaged_layer
from qcomp.passes.lib.input_noise import InputNoise, Reading, least_noise
from qcomp.passes.lib.quantization_noise import Precision
from qcomp.passes.smooth_channels import SmoothChannels
from qcomp.quant.moments import Moments, RunningMoments
from qcomp.quant.qparams import QParams

POSITIONS, CHANNELS = 5, 8
PRECISION = Precision(per_channel=True)
F32 = NDArray[np.float32]


class Block:
    """A transformer's block in parts, on x [1, POSITIONS, CHANNELS]; a channel is far larger."""

    def __init__(self, seed: int = 0) -> None:
        self.graph = Graph("block")
        self.random = np.random.default_rng(seed)
        self.graph.add_input("x", TensorType(DType.F32, (1, POSITIONS, CHANNELS)))

    def constant(self, name: str, data: object) -> TensorId:
        return self.graph.add_constant(name, np.asarray(data, np.float32))

    def norm(self, x: TensorId, output: TensorId, axes: tuple[int, ...] = (2,)) -> TensorId:
        gamma = self.random.uniform(0.5, 1.5, CHANNELS)
        gamma[3] = 60.0
        beta = self.constant(f"{output}.beta", self.random.normal(size=CHANNELS))
        inputs = (x, self.constant(f"{output}.gamma", gamma), beta)
        op = Normalize(inputs=inputs, output=output, axes=axes, centered=True, epsilon=1e-5)
        return self.graph.add_op(op)

    def dense(self, x: TensorId, output: TensorId, outputs: int = CHANNELS) -> TensorId:
        weight = self.random.normal(size=(outputs, self.graph.type(x).shape[-1]))
        bias = self.constant(f"{output}.b", self.random.normal(size=outputs))
        inputs = (x, self.constant(f"{output}.w", weight), bias)
        return self.graph.add_op(Dense(inputs=inputs, output=output))

    def reshape(self, x: TensorId, output: TensorId, *shape: int) -> TensorId:
        return self.graph.add_op(Reshape(inputs=(x,), output=output, shape=shape))

    def add(self, op: Op) -> TensorId:
        return self.graph.add_op(op)

    def returning(self, *ids: TensorId) -> Graph:
        for id in ids:
            self.graph.outputs[id] = id
        return self.graph


def samples(count: int = 6) -> list[F32]:
    random = np.random.default_rng(1)
    return [random.normal(size=(1, POSITIONS, CHANNELS)).astype(np.float32) for _ in range(count)]


def moments(graph: Graph, ids: Collection[TensorId]) -> Mapping[TensorId, Moments]:
    running = {id: RunningMoments() for id in ids}
    for x in samples():
        values = evaluate_all(graph, {"x": x})
        for id, one in running.items():
            one.update(values[id])
    return {id: one.moments() for id, one in running.items()}


def smoothed(graph: Graph) -> tuple[Graph, str]:
    """The graph behind the pass, whose function is the same and which it leaves alone again."""
    found, log = run_pass(graph, SmoothChannels(moments, PRECISION))
    for x in samples():
        before, after = (evaluate(g, {"x": x}) for g in (graph, found))
        for name, expected in before.items():
            scale = float(np.abs(expected).max())
            assert_allclose(after[name], expected, rtol=1e-4, atol=1e-5 * scale)
    return found, log.text


def reach(graph: Graph, id: TensorId) -> F32:
    """The largest magnitude of each channel of what an op reads."""
    values = [evaluate_all(graph, {"x": x})[id] for x in samples()]
    return np.abs(np.concatenate(values)).max(axis=(0, 1))


def test_a_normalisation_takes_the_factors_of_all_its_layers() -> None:
    block = Block()
    n = block.norm("x", "n")
    graph = block.returning(block.dense(n, "q"), block.dense(n, "k"))
    found, log = smoothed(graph)
    assert "did  %n: channels over [" in log
    assert [op.mnemonic for op in found.ops()] == [op.mnemonic for op in graph.ops()]
    before, after = reach(graph, "n"), reach(found, "n")
    assert after.max() / after.min() < 0.5 * before.max() / before.min()


def test_layers_have_a_normalisation_of_their_own_beside_the_residual_stream() -> None:
    block = Block()
    n = block.norm("x", "n")
    y = block.dense(n, "d")
    graph = block.returning(block.add(Add(inputs=(n, y), output="s")))
    found, _ = smoothed(graph)
    layer = found.op("d")
    assert isinstance(layer, Dense)
    assert layer.x == "n.smooth"
    sum_ = found.op("s")
    assert isinstance(sum_, Add)
    assert sum_.a == "n"
    np.testing.assert_array_equal(found.data("n.gamma"), graph.data("n.gamma"))


def test_without_moments_they_have_it_with_the_same_parameters() -> None:
    block = Block()
    n = block.norm("x", "n")
    y = block.dense(n, "d")
    graph = block.returning(block.add(Add(inputs=(n, y), output="s")))
    found, _ = run_pass(graph, SmoothChannels(None, PRECISION))
    own = found.op("n.smooth")
    assert isinstance(own, Normalize)
    assert own.inputs == graph.op("n").inputs
    again, _ = run_pass(found, SmoothChannels(None, PRECISION))
    assert str(again) == str(found)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_v_takes_the_factors_of_what_reads_its_averages(groups: int) -> None:
    """Through heads that share one of v, whose channels have one factor."""
    block = Block()
    n = block.norm("x", "n")
    heads, size = 4, CHANNELS // 4
    shapes = {"q": heads, "k": groups, "v": groups}
    parts = [
        block.reshape(block.dense(n, name, g * size), f"{name}4", 1, POSITIONS, g, size)
        for name, g in shapes.items()
    ]
    a = block.add(Attention(inputs=tuple(parts), output="a", scale=0.5, ahead=POSITIONS))
    a = block.reshape(a, "a3", 1, POSITIONS, CHANNELS)
    graph = block.returning(block.dense(a, "out"))
    averaged = averaged_layer(graph, "a3")
    assert averaged is not None
    assert averaged.layer.id == "v"
    numbers = np.arange(groups * size).reshape(groups, size).repeat(heads // groups, 0)
    np.testing.assert_array_equal(averaged.channels, numbers.reshape(-1))
    found, log = smoothed(graph)
    assert "%a3: channels over" in log
    assert [op.mnemonic for op in found.ops()] == [op.mnemonic for op in graph.ops()]


def test_averages_that_something_else_reads_are_no_v() -> None:
    block = Block()
    parts = [
        block.reshape(block.dense("x", name), f"{name}4", 1, POSITIONS, 2, CHANNELS // 2)
        for name in "qkv"
    ]
    a = block.add(Attention(inputs=tuple(parts), output="a", scale=0.5, ahead=POSITIONS))
    a = block.reshape(a, "a3", 1, POSITIONS, CHANNELS)
    graph = block.returning(block.dense(a, "out"), "v4")
    assert averaged_layer(graph, "a3") is None


def test_a_curve_gets_a_factor_per_channel_behind_it() -> None:
    block = Block()
    n = block.norm("x", "n")
    y = block.add(Unary(inputs=(block.dense(n, "up"),), output="g", function=Function.GELU))
    graph = block.returning(block.dense(y, "down"))
    big = graph.data("up.w").copy()
    big[2] *= 200.0
    weight = graph.add_constant("up.big", big)
    op = graph.op("up")
    graph.set_inputs(op, (op.inputs[0], weight, op.inputs[2]))
    found, log = smoothed(graph)
    assert "did  %g: channels over" in log
    (factor,) = (op for op in found.ops() if isinstance(op, Conv2d))
    assert factor.groups == CHANNELS
    assert found.type(factor.weight).shape == (CHANNELS, 1, 1, 1)


def test_a_network_without_such_normalisations_stays_as_it_is() -> None:
    """Instance normalisation is none: it has other axes."""
    block = Block()
    graph = block.returning(block.dense(block.norm("x", "n", axes=(1,)), "d"))
    found, log = run_pass(graph, SmoothChannels(moments, PRECISION))
    assert str(found) == str(graph)
    assert log.text.strip() == ""


def test_a_tensor_with_scales_of_its_own_is_left_alone() -> None:
    block = Block()
    graph = block.returning(block.dense(block.norm("x", "n"), "d"))
    graph.update_tensor(replace(graph.tensor("n"), qparams=QParams(0.1, 0)))
    found, _ = run_pass(graph, SmoothChannels(moments, PRECISION))
    assert str(found) == str(graph)


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_is_what_rounding_makes(seed: int) -> None:
    """Of values and of weights, within a decibel, for the factors that are found and for others."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(2000, 16)) * 10.0 ** random.uniform(-0.8, 0.8, 16)
    w = random.normal(size=(400, 16))
    size = 1.0 / np.mean((x @ w.T) ** 2, axis=1, keepdims=True)
    reading = Reading(w, np.mean(x**2 * size, axis=0), float(size.mean()))
    noise = InputNoise(np.minimum(x.min(0), 0), np.maximum(x.max(0), 0), (reading,), PRECISION)
    best = least_noise(noise, None)
    assert best.gain > 1.0
    for c in (np.ones(16), best.factors, 2.0 ** (random.normal(size=16) / 2)):
        v, u = x / c, w * c
        step = (v.max() - v.min()) / 255
        steps = np.abs(u).max(axis=1, keepdims=True) / 127
        rounded = (step * np.rint(v / step)) @ (steps * np.rint(u / steps)).T
        actual = np.sum((rounded - x @ w.T) ** 2 * size, axis=1).mean()
        assert abs(10 * np.log10(noise(c) / actual)) < 1.0
    assert noise(best.factors) == pytest.approx(noise(np.ones(16)) / 10 ** (best.gain / 10))


def test_tied_channels_have_one_factor() -> None:
    random = np.random.default_rng(0)
    tied = np.array([0, 1, 0, 1, 2, 2])
    reading = Reading(random.normal(size=(4, 6)), np.ones(6), 1.0)
    high = np.array([9.0, 1, 2, 0.1, 3, 5])
    found = least_noise(InputNoise(-high, high, (reading,), PRECISION), tied)
    for number in range(3):
        assert np.ptp(found.factors[tied == number]) == 0.0
