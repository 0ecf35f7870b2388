"""Moments of activations, measured and as batch normalisation implies them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.calibration.batch_norm import moments_from_batch_norm
from qcomp.calibration.moments import measured_moments
from qcomp.errors import CalibrationError
from qcomp.ir import DType, Graph, TensorType
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.ops import RELU, BatchNorm, Clamp

BETA, GAMMA = np.array([-1.0, 0.0, 2.0]), np.array([0.5, 2.0, 1.0])


def normalised() -> Graph:
    graph = Graph("net")
    graph.add_input("x", TensorType(DType.F32, (1, 8, 8, 3)))
    values = {"gamma": GAMMA, "beta": BETA, "mean": 0 * BETA, "var": 0 * BETA + 1}
    parameters = [graph.add_constant(f"n.{k}", np.float32(v)) for k, v in values.items()]
    graph.add_op(BatchNorm(inputs=("x", *parameters), output="n", eps=0.0))
    graph.outputs["result"] = graph.add_op(Clamp(inputs=("n",), output="y", clamp=RELU))
    return graph


def samples(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(1, 8, 8, 3)).astype(np.float32)} for _ in range(count)]


def test_moments_are_measured_on_inputs_and_results() -> None:
    graph, runs = normalised(), samples(3)
    found = measured_moments(graph, runs)
    assert list(found) == ["x", "n", "y"]
    for id, moments in found.items():
        rows = np.concatenate([evaluate_all(graph, run)[id].reshape(-1, 3) for run in runs])
        assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-4, atol=1e-6)
        assert_allclose(moments.std, rows.std(axis=0), rtol=1e-4)
        assert_allclose(moments.range, (rows.min(), rows.max()), rtol=1e-5)


def test_activations_that_are_not_finite_are_named() -> None:
    run = {"x": np.full((1, 8, 8, 3), np.inf, np.float32)}
    with pytest.raises(CalibrationError, match=r"%x in calibration run 1: NaN or infinity.*finite"):
        measured_moments(normalised(), [*samples(1), run])


def test_batch_norm_implies_what_samples_show() -> None:
    graph = normalised()
    measured, implied = measured_moments(graph, samples(40)), moments_from_batch_norm(graph)
    for id in ("n", "y"):
        assert implied[id].mean.shape == (3,)
        assert_allclose(implied[id].mean, measured[id].mean, atol=0.1)
        assert_allclose(implied[id].std, measured[id].std, rtol=0.1)
        assert (implied[id].high >= measured[id].high).all()
    assert_allclose(implied["x"].range, (-1.0, 1.0))


def test_the_assumed_range_of_inputs_is_the_callers() -> None:
    assert moments_from_batch_norm(normalised(), assumed_input_range=(0.0, 9.0))["x"].range == (
        0.0,
        9.0,
    )


def test_without_batch_norm_there_is_nothing_to_go_by() -> None:
    graph = Graph("plain")
    graph.add_input("x", TensorType(DType.F32, (1, 4)))
    graph.outputs["y"] = graph.add_op(Clamp(inputs=("x",), output="y", clamp=RELU))
    with pytest.raises(CalibrationError, match="no batch-norm statistics"):
        moments_from_batch_norm(graph)
