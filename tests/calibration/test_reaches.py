"""Calibration tells how far normalised values reach, and integers use the bits that this leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcomp.calibration.collect import collect
from qcomp.calibration.statistics import HEADROOM
from qcomp.config import QuantizationConfig
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Normalize, QNormalize
from qcomp.ir.tensor import DType, TensorType
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import run_pass
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.recipes.named import settled

COUNT = 256
RUNS = np.random.default_rng(0).normal(3.0, 2.0, (5, 1, COUNT)).astype(np.float32)


def network() -> Graph:
    """With gammas of which one is small, so that the range of the result tells little of z."""
    graph = Graph("g")
    graph.add_input("x", TensorType(DType.F32, (1, COUNT)))
    gamma = np.ones(COUNT, np.float32)
    gamma[7] = 0.01
    inputs = ("x", graph.add_constant("gamma", gamma), graph.add_constant("b", np.zeros(1, "f")))
    op = Normalize(inputs=inputs, output="y", axes=(1,), centered=True, epsilon=1e-5)
    graph.outputs["y"] = graph.add_op(op)
    return graph


def test_the_largest_normalised_value_of_all_runs() -> None:
    found = collect(network(), RUNS[:, 0]).reaches
    z = (RUNS - RUNS.mean(-1, keepdims=True)) / RUNS.std(-1, keepdims=True)
    assert found == {"y": pytest.approx(HEADROOM * np.abs(z).max(), rel=1e-4)}


@pytest.mark.parametrize("known", [False, True])
def test_what_is_not_reached_is_left_to_precision(known: bool) -> None:
    graph = network()
    statistics = collect(graph, RUNS[:, 0])
    config = settled(QuantizationConfig(activation_bits=16), calibrated=True)
    reaches = statistics.reaches if known else {}
    annotated, log = run_pass(graph, AnnotateRanges(statistics.ranges(config), reaches))
    assert ("|z| up to" in log.text) == known
    integer, _ = run_pass(run_pass(annotated, InsertQuantize(config))[0], FuseRequantize())
    (op,) = integer.ops()
    assert isinstance(op, QNormalize)
    assert op.precision == (16 if known else 14)  # of |z| up to 16 nothing is known to be less


def test_other_ops_have_no_reach() -> None:
    graph = network()
    (op,) = graph.ops()
    assert isinstance(op, Normalize)
    after, _ = run_pass(graph, AnnotateRanges({"x": (-9.0, 9.0), "y": (-4.0, 4.0)}, {"x": 2.0}))
    assert after.ops() == [replace(op)]
