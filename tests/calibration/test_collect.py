"""Collected statistics against the numpy meaning of every op."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from qcomp.calibration.collect import collect
from qcomp.config import QuantizationConfig
from qcomp.errors import CalibrationError
from qcomp.ir import DType, Graph, TensorType
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.ops import RELU, Add, Conv2d, Dense, Function, MaxPool2d, Reduce, Reduction, Unary
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import run_pass
from qcomp.quant.estimators import ESTIMATORS

F32 = NDArray[np.float32]


def network(size: int = 8) -> Graph:
    """conv+relu -> max pool -> residual add -> global mean -> dense; the output's name is "x"."""
    rng = np.random.default_rng(1)

    def constant(id: str, *shape: int) -> str:
        return graph.add_constant(id, rng.normal(0, 0.5, shape).astype(np.float32))

    graph = Graph("net")
    graph.add_input("image", TensorType(DType.F32, (1, size, size, 3)))
    weight, bias = constant("w", 4, 3, 3, 3), constant("b", 4)
    graph.add_op(
        Conv2d(inputs=("image", weight, bias), output="h", padding=(1, 1, 1, 1), clamp=RELU)
    )
    graph.add_op(MaxPool2d(inputs=("h",), output="p", kernel=(2, 2), stride=(2, 2)))
    graph.add_op(Add(inputs=("p", "p"), output="x"))
    graph.add_op(
        Reduce(inputs=("x",), output="m", kind=Reduction.MEAN, axes=(1, 2), keepdims=False)
    )
    graph.add_op(Dense(inputs=("m", constant("dw", 5, 4), constant("db", 5)), output="logits"))
    graph.outputs["x"] = "logits"
    return graph


def samples(count: int, size: int = 8) -> F32:
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype(np.float32)


def activations(graph: Graph, data: F32) -> dict[str, F32]:
    runs = [evaluate_all(graph, {"image": x[None]}) for x in data]
    return {id: np.concatenate([run[id] for run in runs]) for id in runs[0]}


def test_minmax_ranges_are_the_extremes_of_every_activation() -> None:
    graph, data = network(), samples(6)
    found = collect(graph, data)
    expected = activations(graph, data)
    assert found.samples == 6
    assert set(found.mnemonics) == set(expected) == {"image", "h", "p", "x", "m", "logits"}
    for id, values in expected.items():
        assert_allclose(
            found.range(id, "minmax"), (values.min(), values.max()), rtol=1e-4, atol=1e-5
        )


def test_channel_means_are_those_of_what_convolutions_and_dense_layers_read() -> None:
    graph, data = network(), samples(6)
    found = collect(graph, data)
    expected = activations(graph, data)
    assert set(found.channel_means) == {"image", "m"}
    assert_allclose(found.channel_means["image"], data.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
    assert_allclose(found.channel_means["m"], expected["m"].mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_gives_ranges_that_annotate_the_graph(estimator: str) -> None:
    graph = network()
    found = collect(graph, samples(4)).ranges(
        QuantizationConfig(range=estimator, activation_bits=8)
    )
    annotated, _ = run_pass(graph, AnnotateRanges(found))
    low, high = annotated.tensor("h").range or (None, None)
    assert low == 0.0
    assert high is not None
    assert 1.0 < high < 20.0


def test_a_one_shot_generator_is_enough() -> None:
    data = samples(5)
    assert collect(network(), (x for x in data)).samples == 5
    by_list, by_generator = collect(network(), list(data)), collect(network(), iter(data))
    config = QuantizationConfig(range="mse", activation_bits=8)
    assert by_list.ranges(config) == by_generator.ranges(config)


def test_a_constant_activation_has_a_range_of_one_number() -> None:
    found = collect(network(), np.zeros((3, 8, 8, 3)))
    assert found.range("image", "minmax") == (0.0, 0.0)
    low, high = found.range("logits", "minmax")
    assert np.isfinite([low, high]).all()


@dataclass
class Repeated:
    """Samples again and again; garbage is collected on the way, so that it does not count."""

    samples: F32
    count: int

    def __iter__(self) -> Iterator[F32]:
        for i, sample in enumerate(islice(cycle(self.samples), self.count)):
            if i % 20 == 0:
                gc.collect()
            yield sample


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples() -> None:
    """What Python itself holds, some 100 kB either way, is far below the bound."""
    distinct = samples(20, size=32)
    graph = network(size=32)
    graph.outputs["x"] = "h"  # of logits, rows are kept up to a bound: test_cross_entropy.py

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            collect(graph, Repeated(distinct, count))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    assert peak(400) - peak(20) < 380 * distinct[0].nbytes // 4


def test_an_activation_that_overflows_is_named_with_its_run() -> None:
    graph = Graph("overflow")
    x = graph.add_input("x", TensorType(DType.F32, (1, 2)))
    graph.outputs["y"] = graph.add_op(Unary(inputs=(x,), output="y", function=Function.EXP))
    with pytest.raises(CalibrationError, match="%y in calibration run 1: NaN or infinity"):
        collect(graph, np.array([[1.0, 2.0], [1.0, 1000.0]]))


def test_minus_infinity_that_is_no_mask_is_named_with_its_run() -> None:
    graph = Graph("identity")
    x = graph.add_input("x", TensorType(DType.F32, (1, 2)))
    graph.outputs["y"] = graph.add_op(Unary(inputs=(x,), output="y", function=Function.EXP))
    with pytest.raises(CalibrationError, match="%x in calibration run 0: NaN or infinity"):
        collect(graph, np.array([[-np.inf, 2.0]]))


def test_bad_data_is_an_error_of_calibration() -> None:
    with pytest.raises(CalibrationError, match="input image: shape"):
        collect(network(), np.zeros((1, 3, 8, 8)))


def test_quick_calibration_leaves_a_log_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    sources: list[Any] = [samples(3), iter(samples(3))]
    for source in sources:
        collect(network(), source, progress=True)
        assert capfd.readouterr() == ("", "")
