"""Probabilities of many classes and logarithms of small ones, as outputs."""

from __future__ import annotations

import numpy as np
from network_builder import Builder
from specified import Runs, answers, quantized, sqnr_by_output


def runs(count: int, seed: int) -> Runs:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=(1, 16)).astype(np.float32)} for _ in range(count)]


def test_log_softmax_reaches_as_far_as_its_logits_and_small_probabilities_differ() -> None:
    b = Builder(17)
    steep = b("LogSoftmax", b("MatMul", "x", b.random.normal(size=(16, 4)) * 8), axis=1)
    many = b("Softmax", b("MatMul", "x", b.random.normal(size=(16, 1000)) * 0.3), axis=1)
    few = b("Softmax", b("MatMul", "x", b.random.normal(size=(16, 4)) * 8), axis=1)
    model = b.model({"x": [1, 16]}, [steep, many, few])
    graph = quantized(model, runs(64, 0))
    found = sqnr_by_output(model, graph, runs(24, 1))
    assert found[steep] > 35.0
    assert found[many] > 14.0
    assert found[few] > 20.0
    q = graph.tensor(graph.outputs[few]).qparams
    assert q is not None
    assert q.scale == 1 / 256
    ties = [np.sum(p == p.max()) > 1 for r in runs(24, 1) for p in [answers(graph, r)[many]]]
    assert np.mean(ties) < 0.2
