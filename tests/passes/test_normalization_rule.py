"""The integer form of a normalisation is certified, and as close to the QDQ form as is stated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lowered_graphs import PLAIN, lowered, sample, steps_apart
from lowered_graphs import integers as quantized

from qcomp.ir import DType, Graph, TensorType
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.ops import NO_CLAMP, RELU, ClampRange, Normalize, QNormalize
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators

IMAGE = (2, 6, 5, 4)
# shape, axes, shapes of gamma and beta
GROUPS = [
    (IMAGE, (3,), ((4,), (4,))),
    (IMAGE, (1, 2), ((4,), (1,))),
    (IMAGE, (1, 3), ((5, 1), (5, 4))),
    (IMAGE, (0, 1, 2, 3), ((1,), ())),
    ((7, 60), (1,), ((60,), (60,))),
]
STATISTICS = [(True, 1e-5, 0.0), (True, 1e-3, 0.0), (False, 1e-6, 0.0), (False, 0.0, 1e-12)]


def graph_of(
    shape: tuple[int, ...], parameters: Any, random: np.random.Generator, **attributes: Any
) -> Graph:
    graph = Graph("g")
    graph.add_input("x", TensorType(DType.F32, shape))
    gamma, beta = (
        np.asarray(random.normal(m, 0.5, p), "f") for m, p in zip((1, 0), parameters, strict=True)
    )
    inputs = ("x", graph.add_constant("gamma", gamma), graph.add_constant("beta", beta))
    graph.outputs["y"] = graph.add_op(Normalize(inputs=inputs, output="y", **attributes))
    return graph


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("statistics", STATISTICS, ids=str)
@pytest.mark.sweep(8)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([2.0**-8, 0.3, 5.0]),
    shift=st.sampled_from([-2.0, 0.0, 0.7]),
    wide=st.sets(st.sampled_from(["x", "y"])),
    clamp=st.sampled_from([NO_CLAMP, RELU, ClampRange(-0.7, 0.9)]),
)
def test_integers_are_close_to_the_qdq_form(
    groups: Any,
    statistics: Any,
    seed: int,
    spread: float,
    shift: float,
    wide: set[str],
    clamp: ClampRange,
) -> None:
    """Within a step of 8 bits; of 16 bits within what w, gamma and the mean are rounded by."""
    shape, axes, parameters = groups
    centered, epsilon, least = statistics
    random = np.random.default_rng(seed)
    graph = graph_of(
        shape, parameters, random, axes=axes, centered=centered, epsilon=epsilon, least=least,
        clamp=clamp,
    )  # fmt: skip
    feed = {"x": sample(random, shape, spread, shift)}
    config = replace(PLAIN, overrides={id: {"activation_bits": 16} for id in sorted(wide)})
    qdq, integer, _ = lowered(graph, feed, config=config)
    run_pass(integer, CertifyAccumulators())
    (op,) = integer.ops()
    assert isinstance(op, QNormalize)
    assert integer.type(op.output).dtype is DType.activation(16 if "y" in wide else 8)
    apart = steps_apart(qdq, integer, feed)
    if "y" in wide:
        assert apart <= 1.0 + bound(integer, op, feed)
    else:
        assert apart <= 1.0


def bound(graph: Graph, op: QNormalize, feed: Any) -> float:
    """Steps of the result by which rounding may move it: that of w (3.5, see docs/arithmetic.md)
    and of the mean (half a unit of d), times gamma, and that of gamma, times w.
    """
    values = evaluate_all(graph, quantized(graph, feed))["x"].astype(np.float64)
    d = values * 2.0**op.fraction_bits
    d = d - d.mean(axis=op.axes, keepdims=True) if op.centered else d
    count = math.prod(values.shape[a] for a in op.axes)
    power = float(((d**2).sum(axis=op.axes) + op.added).min())
    mean = (0.51 + math.sqrt(count) / 8) / math.sqrt(max(power, 1.0)) if op.centered else 0.0
    w = 3.5 + 2.0**op.precision * mean
    gamma = float(np.abs(graph.data(op.gamma).astype(np.float64)).max())
    return (w * gamma + 2.0**14) / 2.0**op.shift
