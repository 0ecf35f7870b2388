"""Layers get scales that are found in each run: the same function, and which layers do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.config import QuantizationConfig
from qcomp.ir import DType, Graph, TensorType
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import RELU, AbsMax, Conv2d, Dense, Reshape, ScaleDown, ScaleUp
from qcomp.ir.tensor import Origin
from qcomp.passes.base import run_pass
from qcomp.passes.scale_dynamically import ScaleDynamically

DYNAMIC = ScaleDynamically(QuantizationConfig(activations="dynamic"))


def network() -> Graph:
    """A convolution, a factor per channel, and two dense layers on rows of its result."""
    random = np.random.default_rng(0)
    graph = Graph("g")
    graph.add_input("x", TensorType(DType.F32, (2, 4, 4, 3)))

    def constants(name: str, *shape: int) -> tuple[str, str]:
        return (
            graph.add_constant(f"{name}.w", random.normal(size=shape).astype(np.float32)),
            graph.add_constant(f"{name}.b", random.normal(size=shape[:1]).astype(np.float32)),
        )

    graph.add_op(Conv2d(inputs=("x", *constants("c", 4, 3, 3, 3)), output="c", clamp=RELU))
    graph.add_op(Conv2d(inputs=("c", *constants("f", 4, 1, 1, 1)), output="f", groups=4))
    graph.add_op(Reshape(inputs=("f",), output="r", shape=(2, 4, 4)))
    for name in ("d", "e"):
        graph.outputs[name] = graph.add_op(Dense(inputs=("r", *constants(name, 5, 4)), output=name))
    return graph


def test_the_function_is_the_same() -> None:
    before = network()
    after, log = run_pass(before, DYNAMIC)
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 3)).astype(np.float32)
    x[1] *= 100.0
    wanted, got = (evaluate(graph, {"x": x}) for graph in (before, after))
    for name in ("d", "e"):
        assert_allclose(got[name], wanted[name], rtol=1e-4, atol=1e-4)
    assert "c: a scale for each image of %x" in log.text
    assert "d: a scale for each row of %r" in log.text
    assert "f: it multiplies each channel by a number" in log.text


def test_what_is_zero_gives_the_bias() -> None:
    after, _ = run_pass(network(), DYNAMIC)
    nothing = {"x": np.zeros((2, 4, 4, 3), np.float32)}
    wanted, got = (evaluate(graph, nothing) for graph in (network(), after))
    assert_allclose(got["d"], wanted["d"], rtol=1e-5)


def test_layers_share_the_maximum_of_what_they_read() -> None:
    after, _ = run_pass(network(), DYNAMIC)
    kinds = [type(op) for op in after.ops()]
    assert [kinds.count(cls) for cls in (AbsMax, ScaleDown, ScaleUp)] == [2, 2, 3]
    maxima = [op.axes for op in after.ops() if isinstance(op, AbsMax)]
    assert maxima == [(1, 2, 3), (2,)]


def test_a_layer_keeps_its_id_and_the_result_its_origin() -> None:
    graph = network()
    graph.update_tensor(replace(graph.tensor("c"), origin=Origin("relu")))
    after, _ = run_pass(graph, DYNAMIC)
    (up,) = after.consumers("c")
    assert isinstance(up, ScaleUp)
    assert up.clamp == RELU
    assert (after.tensor("c").origin, after.tensor(up.id).origin) == (None, Origin("relu")) or (
        after.tensor(up.id).origin is not None and after.tensor("c").origin is None
    )


def test_a_second_run_changes_nothing() -> None:
    after, _ = run_pass(network(), DYNAMIC)
    again, log = run_pass(after, DYNAMIC)
    assert str(again) == str(after)
    assert "it has a scale that is found at run time already" in log.text


@pytest.mark.parametrize("chosen", ["d", "dense"])
def test_overrides_choose_layers(chosen: str) -> None:
    config = QuantizationConfig(overrides={chosen: {"activations": "dynamic"}})
    assert config.is_dynamic
    after, log = run_pass(network(), ScaleDynamically(config))
    assert sum(isinstance(op, ScaleUp) for op in after.ops()) == (1 if chosen == "d" else 2)
    assert "c: activations are static" in log.text
