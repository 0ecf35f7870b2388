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

from qcomp.errors import PassError
from qcomp.ir import DType, Graph, TensorType
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.ops import NO_CLAMP, RELU, ClampRange, Normalize, QNormalize
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.quant.normalize_constants import power_constants
from qcomp.quant.qparams import QParams, integer_range

IMAGE = (2, 6, 5, 4)
Q16 = QParams(0.1, 0, -32768, 32767)
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


def integer_form(count: int = 60, **changes: Any) -> Graph:
    """Of rows of so many values of 16 bits, with fields changed."""
    random, shape = np.random.default_rng(0), (2, count)
    graph = graph_of(shape, ((count,), (count,)), random, axes=(1,), centered=True, epsilon=1e-5)
    config = replace(PLAIN, activation_bits=16)
    _, integer, _ = lowered(graph, {"x": sample(random, shape)}, config=config)
    (op,) = integer.ops()
    integer.replace_op(replace(op, **changes))
    return integer


def test_the_integer_form_is_certified_with_what_is_left_of_its_lanes() -> None:
    _, log = run_pass(integer_form(), CertifyAccumulators())
    assert "bits of head-room" in log.text


@pytest.mark.parametrize(
    "changes", [{"mean_multiplier": 2**43}, {"count": 2**15 + 8, "fraction_bits": 8}], ids=str
)
def test_sums_that_leave_64_bits_are_refused(changes: dict[str, int]) -> None:
    """Of the product that the mean is rounded from, and of the squares of many values."""
    integer = integer_form(**changes)
    with pytest.raises(PassError, match=r"the sum can reach \d+, expected less than 2\^63"):
        run_pass(integer, CertifyAccumulators())


def test_parameters_that_leave_32_bits_are_refused() -> None:
    integer = integer_form()
    (op,) = integer.ops()
    assert isinstance(op, QNormalize)
    large = integer.add_constant("large", np.full(60, 2**15 - 1, np.int16))
    most = integer.add_constant("most", np.full(60, 2**30, np.int32))
    integer.set_inputs(op, (op.x, op.roots, large, most))
    with pytest.raises(PassError, match="accumulators are not certified"):
        run_pass(integer, CertifyAccumulators())


@pytest.mark.parametrize(
    ("attributes", "scale", "reason"),
    [
        ({"epsilon": 1e12}, 1e-6, "epsilon=1e.12 and least=0 are more than 2.61 squared steps"),
        ({"epsilon": 1e-5, "gamma": 1e12}, 0.0, "gamma or beta is up to .* steps of the result"),
    ],
)
def test_numbers_without_an_integer_form_are_named(
    attributes: dict[str, float], scale: float, reason: str
) -> None:
    graph = Graph("g")
    graph.add_input("x", TensorType(DType.F32, (2, 8)))
    gamma = np.full(1, attributes.get("gamma", 1.0), np.float32)
    inputs = ("x", graph.add_constant("gamma", gamma), graph.add_constant("beta", np.zeros(1, "f")))
    op = Normalize(
        inputs=inputs, output="y", axes=(1,), centered=True, epsilon=attributes["epsilon"]
    )
    graph.outputs["y"] = graph.add_op(op)
    x = np.linspace(-scale, scale, 16, dtype=np.float32).reshape(2, 8)
    with pytest.raises(PassError, match=f"%y = normalize(.|\n)*has no integer form: {reason}"):
        lowered(graph, {"x": x})


@pytest.mark.parametrize("gamma", [0.0, 1e3])
def test_a_result_that_never_moved_has_an_integer_form(gamma: float) -> None:
    """Its range tells nothing, and nothing of z is left of it."""
    graph = Graph("g")
    graph.add_input("x", TensorType(DType.F32, (2, 8)))
    constants = (
        graph.add_constant(n, np.full(1, v, np.float32)) for n, v in (("g", gamma), ("b", 0))
    )
    op = Normalize(inputs=("x", *constants), output="y", axes=(1,), centered=True, epsilon=1e-5)
    graph.outputs["y"] = graph.add_op(op)
    qdq, integer, _ = lowered(graph, {"x": np.ones((2, 8), np.float32)})
    run_pass(integer, CertifyAccumulators())
    assert steps_apart(qdq, integer, {"x": np.ones((2, 8), np.float32)}) == 0.0


def test_a_group_of_too_many_values_is_named() -> None:
    with pytest.raises(ValueError, match="groups of 2147483648 values of 16 bits"):
        power_constants(Q16, 2**31, epsilon=0.0, least=0.0, centered=True)


@pytest.mark.parametrize("bits", [8, 16])
@given(count=st.integers(1, 2**24), scale=st.floats(1e-6, 1e3), epsilon=st.floats(0.0, 1.0))
def test_sums_fit_63_bits(bits: int, count: int, scale: float, epsilon: float) -> None:
    low, high = integer_range(bits)
    x = QParams(scale, 0, low, high)
    try:
        found = power_constants(x, count, epsilon=epsilon, least=0.0, centered=True)
    except ValueError:
        assert count * epsilon / scale**2 >= 2**60
        return
    f = found.fraction_bits
    assert count * (((high - low) << f) + 2) ** 2 + found.added < 2**63
    assert count * -low * found.mean_multiplier < 2**62
    mean = found.mean_multiplier / 2.0**found.mean_shift
    assert abs(mean * count * -low - (-low << f)) < 0.5  # of the largest sum
