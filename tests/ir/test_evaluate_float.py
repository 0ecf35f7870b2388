"""Float meanings against arithmetic written out by hand; the other oracle is tests/export."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU,
    RELU6,
    Add,
    ArgMax,
    AveragePool2d,
    Clamp,
    Conv2d,
    Div,
    Function,
    MaxPool2d,
    Quantize,
    Reduce,
    Reduction,
    Unary,
)
from qcomp.ir.tensor import DType, TensorType

RNG = np.random.default_rng(0)


def image(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def one_input(*shape: int, dtype: DType = DType.F32) -> Graph:
    graph = Graph("one")
    graph.add_input("x", TensorType(dtype, shape))
    return graph


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_convolution_is_its_definition(groups: int, multiplier: int) -> None:
    x, weight = image(2, 7, 6, 6), image(6 * multiplier, 3, 2, 6 // groups)
    bias = image(6 * multiplier)
    graph = one_input(*x.shape)
    w, b = graph.add_constant("w", weight), graph.add_constant("b", bias)
    graph.outputs["y"] = graph.add_op(
        Conv2d(
            inputs=("x", w, b),
            output="y",
            stride=(2, 1),
            padding=(1, 0, 2, 1),
            dilation=(1, 2),
            groups=groups,
            clamp=RELU,
        )
    )
    y = evaluate(graph, {"x": x})["y"]
    padded = np.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)))
    depth, per_group = 6 // groups, multiplier * 6 // groups
    for n, i, j, o in np.ndindex(*y.shape):
        first = o // per_group * depth
        window = padded[n, 2 * i : 2 * i + 3, j : j + 3 : 2, first : first + depth]
        expected = max(0.0, float((window * weight[o]).sum(dtype=np.float64)) + float(bias[o]))
        assert y[n, i, j, o] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_clamp_applies_after_the_sum() -> None:
    graph = one_input(3)
    graph.outputs["y"] = graph.add_op(Add(inputs=("x", "x"), output="y", clamp=RELU6))
    y = evaluate(graph, {"x": np.array([-1, 2, 4], np.float32)})["y"]
    assert_array_equal(y, np.array([0, 4, 6], np.float32))


def test_division_by_zero_is_infinite_and_silent() -> None:
    graph = one_input(2)
    zero = graph.add_constant("zero", np.zeros(1, np.float32))
    graph.outputs["y"] = graph.add_op(Div(inputs=("x", zero), output="y"))
    y = evaluate(graph, {"x": np.array([-1, 2], np.float32)})["y"]
    assert y.tolist() == [-math.inf, math.inf]


@pytest.mark.parametrize("function", list(Function))
def test_functions_give_f32_and_never_warn(function: Function) -> None:
    graph = one_input(5)
    op = Unary(inputs=("x",), output="y", function=function, alpha=0.5, beta=0.25)
    graph.outputs["y"] = graph.add_op(op)
    x = np.array([-1e30, -1.5, 0.0, 2.5, 1e30], np.float32)
    y = evaluate(graph, {"x": x})["y"]
    assert y.dtype == np.float32
    assert np.isfinite(y[3])


@pytest.mark.parametrize(
    ("function", "alpha", "beta", "x", "expected"),
    [
        (Function.SILU, 1.0, 0.0, 1.0, 1 / (1 + math.exp(-1))),
        (Function.SILU, 1.702, 0.0, 1.0, 1 / (1 + math.exp(-1.702))),
        (Function.GELU, 1.0, 0.0, 1.0, 0.5 * (1 + math.erf(math.sqrt(0.5)))),
        (Function.SELU, 2.0, 3.0, -1.0, 6 * (math.exp(-1) - 1)),
        (Function.CELU, 2.0, 0.0, -1.0, 2 * (math.exp(-0.5) - 1)),
        (Function.HARD_SWISH, 1.0, 0.0, 1.0, 2 / 3),
        (Function.ROUND, 1.0, 0.0, 2.5, 2.0),
        (Function.POW, 3.0, 0.0, -2.0, -8.0),
        (Function.AFFINE, 3.0, 0.5, -2.0, -5.5),
    ],
)
def test_functions_at_known_points(
    function: Function, alpha: float, beta: float, x: float, expected: float
) -> None:
    graph = one_input(1)
    op = Unary(inputs=("x",), output="y", function=function, alpha=alpha, beta=beta)
    graph.outputs["y"] = graph.add_op(op)
    assert_allclose(evaluate(graph, {"x": np.array([x], np.float32)})["y"], [expected], rtol=1e-6)


def test_padding_never_wins_a_max_pool() -> None:
    graph = one_input(1, 2, 2, 1, dtype=DType.I8)
    pool = MaxPool2d(inputs=("x",), output="y", kernel=(2, 2), padding=(1, 1, 1, 1))
    graph.outputs["y"] = graph.add_op(pool)
    y = evaluate(graph, {"x": np.array([-128, -3, -2, -1], np.int8).reshape(1, 2, 2, 1)})["y"]
    assert y.dtype == np.int8
    assert y[0, :, :, 0].tolist() == [[-128, -3, -3], [-2, -1, -1], [-2, -1, -1]]


@pytest.mark.parametrize(("include", "corner"), [(False, 4.0), (True, 1.0)])
def test_an_average_counts_padding_only_when_told(include: bool, corner: float) -> None:
    graph = one_input(1, 2, 2, 1)
    pool = AveragePool2d(
        inputs=("x",),
        output="y",
        kernel=(2, 2),
        padding=(1, 1, 0, 0),
        count_include_pad=include,
    )
    graph.outputs["y"] = graph.add_op(pool)
    y = evaluate(graph, {"x": np.array([4, 0, 0, 0], np.float32).reshape(1, 2, 2, 1)})["y"]
    assert y[0, 0, 0, 0] == corner


@pytest.mark.parametrize(("last", "expected"), [(False, 1), (True, 2)])
def test_argmax_breaks_ties_as_told(last: bool, expected: int) -> None:
    graph = one_input(1, 4, dtype=DType.I8)
    graph.outputs["y"] = graph.add_op(ArgMax(inputs=("x",), output="y", axis=1, last=last))
    y = evaluate(graph, {"x": np.array([[0, 7, 7, 1]], np.int8)})["y"]
    assert y.dtype == np.int32
    assert y.tolist() == [[expected]]


def test_evaluate_all_keeps_every_activation() -> None:
    graph = one_input(1, 2, 2, 3)
    graph.add_op(Clamp(inputs=("x",), output="relu", clamp=RELU))
    graph.outputs["mean"] = graph.add_op(
        Reduce(inputs=("relu",), output="m", kind=Reduction.MEAN, axes=(1, 2), keepdims=False)
    )
    x = image(1, 2, 2, 3)
    values = evaluate_all(graph, {"x": x})
    assert set(values) == {"x", "relu", "m"}
    assert_array_equal(values["relu"], np.maximum(x, 0))
    assert_array_equal(values["m"], evaluate(graph, {"x": x})["mean"])


def test_an_output_may_be_an_input_a_constant_or_named_twice() -> None:
    graph = one_input(2)
    c = graph.add_constant("c", np.ones(2, np.float32))
    graph.add_op(Add(inputs=("x", c), output="y"))
    graph.outputs.update({"same": "x", "one": c, "y": "y", "again": "y"})
    results = evaluate(graph, {"x": np.zeros(2, np.float32)})
    assert {k: v.tolist() for k, v in results.items()} == {
        "same": [0, 0],
        "one": [1, 1],
        "y": [1, 1],
        "again": [1, 1],
    }


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"expected the inputs \['x'\], got \[\]"),
        ({"x": image(2), "z": image(2)}, r"got \['x', 'z'\]"),
        ({"x": image(3)}, r"input x must be f32\[2\], not f32\[3\]"),
        ({"x": np.zeros(2)}, r"input x must be f32\[2\], not f64\[2\]"),
        ({"x": np.zeros(2, np.complex64)}, r"not complex64\[2\]"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, np.ndarray], message: str) -> None:
    graph = one_input(2)
    graph.outputs["y"] = graph.add_op(Clamp(inputs=("x",), output="y", clamp=RELU))
    with pytest.raises(ValueError, match=message):
        evaluate(graph, inputs)


def test_a_quantize_without_parameters_is_named() -> None:
    graph = one_input(2)
    graph.outputs["y"] = graph.add_op(Quantize(inputs=("x",), output="y"))
    with pytest.raises(ValueError, match="%y has no qparams"):
        evaluate(graph, {"x": image(2)})
