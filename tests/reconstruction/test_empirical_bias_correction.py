"""Empirical bias correction brings back the mean of every channel, also of errors from before."""

from __future__ import annotations

import numpy as np
import pytest
from fitted_network import made

from qcomp.execute.session import FloatSession
from qcomp.passes.base import run_pass
from qcomp.reconstruction.activation import Activation
from qcomp.reconstruction.bias import bias_of_mean, bias_of_rows
from qcomp.reconstruction.blocks import Windows
from qcomp.reconstruction.correct_bias import CorrectBiasEmpirically
from qcomp.reconstruction.engine import NumpyEngine
from qcomp.reconstruction.rows import Rows


def test_each_channel_has_the_mean_of_the_float_network() -> None:
    c = made()
    after, log = run_pass(c.qdq, CorrectBiasEmpirically(c.data))
    assert log.count("did") == len(c.layers)
    assert "output steps" in log.text
    floats, before, corrected = (
        [session.run(sample) for sample in c.samples]
        for session in (
            FloatSession(graph, extra_outputs=["c", "g"]) for graph in (c.float_graph, c.qdq, after)
        )
    )
    for id in ("c", "g"):  # without a clamp, only the rounding of the bias is left
        mean, old, new = (
            np.concatenate([v[id].reshape(-1, v[id].shape[-1]) for v in values]).mean(axis=0)
            for values in (floats, before, corrected)
        )
        assert np.abs(old - mean).max() > 0.01
        bias = after.op(after.op(id).inputs[2])
        assert (np.abs(new - mean) <= after.data(bias.inputs[1]) / 2 + 1e-4).all()


def test_activations_alone_are_also_corrected_for() -> None:
    c = made(weight_bits=8, first_last_weight_bits=8)
    for layer in c.layers:
        for name in (layer.weight, layer.bias):
            op = c.qdq.op(name)
            c.qdq.replace_op(op.with_input(1, c.qdq.add_constant("fine", np.array([1e-7]))))
    _, log = run_pass(c.qdq, CorrectBiasEmpirically(c.data))
    assert log.count("did") == len(c.layers)


def test_a_second_run_changes_nothing() -> None:
    c = made()
    once, _ = run_pass(c.qdq, CorrectBiasEmpirically(c.data))
    twice, log = run_pass(once, CorrectBiasEmpirically(c.data))
    assert str(once) == str(twice)
    assert log.count("did") == 0


def test_weights_or_operands_that_are_not_quantized_are_declined() -> None:
    c = made()
    layer = c.layers[0]
    c.qdq.set_inputs(layer, (layer.x, layer.weight, "a.b"))
    _, log = run_pass(c.qdq, CorrectBiasEmpirically(c.data))
    assert "skip a: %a.b is not quantized" in log.text


def bent(low: float, high: float, slope: float = 1.0) -> Activation:
    shaped = [np.full((1, 1, 1), v, np.float32) for v in (low, high, slope)]
    return Activation(*shaped)


@pytest.mark.parametrize("activation", [bent(0.0, 6.0), bent(-np.inf, np.inf, 0.1)])
def test_the_mean_behind_the_activation_is_the_float_networks(activation: Activation) -> None:
    random = np.random.default_rng(5)
    x = random.normal(0, 2, (2, 4000, 3)).astype(np.float32)
    weight = random.normal(0, 1, (2, 4, 3))
    exact = np.matmul(x, weight.swapaxes(1, 2).astype(np.float32)) + np.float32(1.5)
    rounded = weight + random.normal(0, 0.2, weight.shape)
    bias = bias_of_rows(Rows(x, exact), rounded, activation)
    got = np.matmul(x, rounded.swapaxes(1, 2).astype(np.float32)) + bias[:, None]
    engine = NumpyEngine()
    mean = activation(engine, exact).mean(axis=1)
    np.testing.assert_allclose(activation(engine, got).mean(axis=1), mean, atol=1e-4)


def test_a_channel_that_is_never_let_pass_gets_the_mean_before_the_activation() -> None:
    x = np.random.default_rng(6).normal(0, 1, (1, 500, 2)).astype(np.float32)
    weight = np.ones((1, 1, 2))
    target = x.sum(axis=2, keepdims=True) - np.float32(100.0)
    bias = bias_of_rows(Rows(x, target), weight, bent(0.0, 6.0))
    np.testing.assert_allclose(bias, -100.0, rtol=1e-5)


@pytest.mark.parametrize("activation", [bent(0.0, 6.0), bent(-np.inf, np.inf)])
def test_the_mean_is_met_from_some_rows_at_a_time(activation: Activation) -> None:
    random = np.random.default_rng(7)
    x = random.normal(0, 2, (2, 4000, 3)).astype(np.float32)
    weight = random.normal(0, 1, (2, 4, 3))
    rounded = weight + random.normal(0, 0.2, weight.shape)
    offset = np.full((2, 4), 1.5)
    results = [np.matmul(x, w.swapaxes(1, 2).astype(np.float32)) for w in (weight, rounded)]
    engine = NumpyEngine()
    wanted = activation(engine, results[0] + np.float32(1.5)).mean(axis=1, dtype=np.float64)
    parts = [Windows(part) for part in np.array_split(x, 8, axis=1)]
    bias = bias_of_mean(parts, rounded, (weight, offset), wanted, activation)
    got = activation(engine, results[1] + bias[:, None].astype(np.float32)).mean(axis=1)
    np.testing.assert_allclose(got, wanted, atol=3e-4)
