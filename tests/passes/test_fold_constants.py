"""FoldConstants: what is known or does nothing goes, and the function stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU,
    Add,
    Binary,
    BroadcastTo,
    Clamp,
    ClampRange,
    Concat,
    Div,
    Function,
    Gather,
    Maximum,
    Minimum,
    Mul,
    Op,
    Pad,
    Reduce,
    Reduction,
    Reshape,
    Resize2d,
    Slice,
    Sub,
    Tile,
    Transpose,
    Unary,
)
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.fold_constants import FoldConstants


def graph_of(*shape: int) -> Graph:
    graph = Graph("g")
    graph.add_input("x", TensorType(DType.F32, shape))
    return graph


def number(graph: Graph, *values: float) -> TensorId:
    return graph.add_constant("c", np.array(values, np.float32))


def folded(before: Graph, output: TensorId) -> tuple[Graph, PassLog]:
    """The graph after the pass, which must compute the same and be stable under the pass."""
    before.outputs.setdefault("y", output)
    after, log = run_pass(before, FoldConstants())
    again, _ = run_pass(after, FoldConstants())
    assert str(again) == str(after)
    rng = np.random.default_rng(0)
    x = {"x": rng.uniform(0.5, 2.0, before.type(before.inputs["x"]).shape).astype(np.float32)}
    expected, actual = evaluate(before, x), evaluate(after, x)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-6)
    return after, log


def ops(graph: Graph) -> str:
    return " ".join(op.mnemonic for op in graph.ops())


def exp(graph: Graph, x: TensorId, output: TensorId) -> TensorId:
    return graph.add_op(Unary(inputs=(x,), output=output, function=Function.EXP))


def test_ops_of_constants_are_evaluated() -> None:
    graph = graph_of(2)
    c = graph.add_op(Add(inputs=(number(graph, 1, 2), number(graph, 3, 4)), output="s"))
    c = graph.add_op(Unary(inputs=(c,), output="q", function=Function.SQRT))
    after, _ = folded(graph, graph.add_op(Mul(inputs=("x", c), output="y")))
    assert ops(after) == "mul"
    np.testing.assert_allclose(after.data(after.ops()[0].inputs[1]), [2, np.sqrt(6)], rtol=1e-6)


def test_a_value_that_is_not_finite_is_not_folded() -> None:
    graph = graph_of(2)
    c = graph.add_op(Unary(inputs=(number(graph, 0, 1),), output="r", function=Function.RECIPROCAL))
    graph.outputs["y"] = graph.add_op(Minimum(inputs=("x", c), output="y"))
    after, log = run_pass(graph, FoldConstants())
    assert ops(after) == "unary minimum"
    assert "skip r: its value has NaN or infinity" in log.text


def test_a_constant_output_stays_the_result_of_an_op() -> None:
    graph = graph_of(2)
    c = graph.add_op(Add(inputs=(number(graph, 1, 2), number(graph, 3, 4)), output="s"))
    graph.outputs["constant"] = c
    after, log = folded(graph, exp(graph, "x", "y"))
    assert "add" in ops(after)
    assert "is an output" in log.text


def test_an_output_that_equals_an_input_stays_an_op() -> None:
    graph = graph_of(2)
    after, log = folded(graph, graph.add_op(Clamp(inputs=("x",), output="y")))
    assert ops(after) == "clamp"
    assert "must have an op of its own" in log.text


def test_two_outputs_with_one_value_keep_two_ops() -> None:
    graph = graph_of(2)
    graph.outputs["e"] = exp(graph, "x", "e")
    after, _ = folded(graph, graph.add_op(Clamp(inputs=("e",), output="y")))
    assert ops(after) == "unary clamp"


INDICES = np.array([0, 1], np.int64)
WITHOUT_EFFECT: dict[str, Callable[[Graph], Op]] = {
    "reshape": lambda g: Reshape(inputs=("x",), output="n", shape=(1, 2, 2, 3)),
    "transpose": lambda g: Transpose(inputs=("x",), output="n", permutation=(0, 1, 2, 3)),
    "slice": lambda g: Slice(
        inputs=("x",), output="n", starts=(0,) * 4, sizes=(1, 2, 2, 3), steps=(2, 1, 1, 1)
    ),
    "pad": lambda g: Pad(inputs=("x",), output="n", before=(0,) * 4, after=(0,) * 4),
    "tile": lambda g: Tile(inputs=("x",), output="n", repeats=(1,) * 4),
    "concat": lambda g: Concat(inputs=("x",), output="n", axis=0),
    "broadcast": lambda g: BroadcastTo(inputs=("x",), output="n", shape=(1, 2, 2, 3)),
    "gather": lambda g: Gather(inputs=("x", g.add_constant("i", INDICES)), output="n", axis=1),
    "resize": lambda g: Resize2d(inputs=("x",), output="n", size=(2, 2), scale=(1.0, 1.0)),
    "clamp": lambda g: Clamp(inputs=("x",), output="n"),
    "add 0": lambda g: Add(inputs=(number(g, 0, 0, 0), "x"), output="n"),
    "subtract 0": lambda g: Sub(inputs=("x", number(g, 0)), output="n"),
    "times 1": lambda g: Mul(inputs=("x", number(g, 1, 1, 1)), output="n"),
    "over 1": lambda g: Div(inputs=("x", number(g, 1)), output="n"),
    "power 1": lambda g: Unary(inputs=("x",), output="n", function=Function.POW, alpha=1.0),
    "affine": lambda g: Unary(inputs=("x",), output="n", function=Function.AFFINE),
}


@pytest.mark.parametrize("make", WITHOUT_EFFECT.values(), ids=WITHOUT_EFFECT.keys())
def test_an_op_without_effect_is_dropped(make: Callable[[Graph], Op]) -> None:
    graph = graph_of(1, 2, 2, 3)
    after, _ = folded(graph, exp(graph, graph.add_op(make(graph)), "y"))
    assert ops(after) == "unary"


def test_a_slice_that_turns_an_axis_round_stays() -> None:
    graph = graph_of(3)
    op = Slice(inputs=("x",), output="n", starts=(2,), sizes=(3,), steps=(-1,))
    assert ops(folded(graph, exp(graph, graph.add_op(op), "y"))[0]) == "slice unary"


def test_a_neutral_constant_that_broadcasts_stays_and_says_why() -> None:
    graph = graph_of(1)
    op = Add(inputs=("x", number(graph, 0, 0)), output="n")
    after, log = folded(graph, exp(graph, graph.add_op(op), "y"))
    assert ops(after) == "add unary"
    assert "is neutral, but broadcasts %x to f32[2]" in log.text


def test_the_clamp_of_a_dropped_op_remains() -> None:
    graph = graph_of(2)
    after, _ = folded(
        graph, graph.add_op(Add(inputs=("x", number(graph, 0, 0)), output="y", clamp=RELU))
    )
    assert ops(after) == "clamp"


BINARY: list[tuple[type[Binary], bool, float, float]] = [
    (Add, True, 1.0, 4.0),
    (Add, False, 1.0, 4.0),
    (Sub, False, 1.0, -4.0),
    (Sub, True, -1.0, 4.0),
    (Mul, True, 4.0, 0.0),
    (Mul, False, 4.0, 0.0),
    (Div, False, 0.25, 0.0),
]


@pytest.mark.parametrize(("kind", "number_first", "alpha", "beta"), BINARY)
def test_a_binary_op_with_one_number_is_affine(
    kind: type[Binary], number_first: bool, alpha: float, beta: float
) -> None:
    graph = graph_of(2, 3)
    four = number(graph, 4)
    inputs = (four, "x") if number_first else ("x", four)
    after, _ = folded(graph, graph.add_op(kind(inputs=inputs, output="y")))
    (op,) = after.ops()
    assert isinstance(op, Unary)
    assert (op.function, op.alpha, op.beta) == (Function.AFFINE, alpha, beta)


def test_a_number_over_a_value_is_a_scaled_reciprocal() -> None:
    graph = graph_of(2)
    div = Div(inputs=(number(graph, 3), "x"), output="y", clamp=ClampRange(0.0, 2.5))
    after, _ = folded(graph, graph.add_op(div))
    assert ops(after) == "unary unary clamp"


def test_minimum_and_maximum_with_a_number_are_clamps() -> None:
    graph = graph_of(4)
    t = graph.add_op(Maximum(inputs=("x", number(graph, 0.75)), output="a"))
    t = graph.add_op(
        Minimum(inputs=(number(graph, 1.5), t), output="y", clamp=ClampRange(1.0, 9.0))
    )
    after, _ = folded(graph, t)
    clamps = [op.clamp for op in after.ops() if isinstance(op, Clamp)]
    assert clamps == [ClampRange(low=0.75), ClampRange(1.0, 1.5)]


def test_division_by_zero_stays_and_says_so() -> None:
    graph = graph_of(2)
    graph.outputs["y"] = graph.add_op(Div(inputs=("x", number(graph, 0)), output="y"))
    after, log = run_pass(graph, FoldConstants())
    assert ops(after) == "div"
    assert "skip y: division by 0.0" in log.text


def test_division_by_a_number_whose_inverse_overflows_stays_and_says_so() -> None:
    graph = graph_of(3)
    graph.outputs["y"] = graph.add_op(Div(inputs=("x", number(graph, 1e-41)), output="y"))
    after, log = run_pass(graph, FoldConstants())
    assert isinstance(after.op("y"), Div)
    assert "skip y: division by 9.99966" in log.text


def test_a_number_with_more_axes_than_the_value_stays_and_says_so() -> None:
    graph = graph_of(2)
    c = graph.add_constant("c", np.full((1, 1, 1), 2, np.float32))
    after, log = folded(graph, graph.add_op(Mul(inputs=("x", c), output="y")))
    assert ops(after) == "mul"
    assert "%c adds axes to %x" in log.text


def test_affine_functions_in_a_row_are_one() -> None:
    graph = graph_of(2)
    t = graph.add_op(Mul(inputs=("x", number(graph, 2)), output="a"))
    t = graph.add_op(Sub(inputs=(number(graph, 6), t), output="b"))
    after, _ = folded(graph, graph.add_op(Div(inputs=(t, number(graph, 4)), output="y")))
    (op,) = after.ops()
    assert isinstance(op, Unary)
    assert (op.alpha, op.beta) == (-0.5, 1.5)


def test_affine_functions_whose_product_overflows_stay_two_and_say_so() -> None:
    graph = graph_of(2)
    for x, y in (("x", "a"), ("a", "y")):
        graph.add_op(Unary(inputs=(x,), output=y, function=Function.AFFINE, alpha=1e200))
    graph.outputs["y"] = "y"
    after, log = run_pass(graph, FoldConstants())
    assert ops(after) == "unary unary"
    assert "together overflow" in log.text


@pytest.mark.parametrize(
    ("exponent", "function"),
    [(0.5, Function.SQRT), (-1.0, Function.RECIPROCAL), (2.0, Function.POW), (3.0, Function.POW)],
)
def test_powers_with_a_name_get_it(exponent: float, function: Function) -> None:
    graph = graph_of(2)
    power = Unary(inputs=("x",), output="y", function=Function.POW, alpha=exponent)
    (op,) = folded(graph, graph.add_op(power))[0].ops()
    assert isinstance(op, Unary)
    assert op.function is function


def test_reshapes_and_transposes_in_a_row_are_one() -> None:
    graph = graph_of(2, 3, 4)
    t = graph.add_op(Reshape(inputs=("x",), output="a", shape=(6, 4)))
    t = graph.add_op(Reshape(inputs=(t,), output="b", shape=(4, 3, 2)))
    t = graph.add_op(Transpose(inputs=(t,), output="c", permutation=(1, 2, 0)))
    t = graph.add_op(Transpose(inputs=(t,), output="y", permutation=(1, 0, 2)))
    after, _ = folded(graph, t)
    assert ops(after) == "reshape transpose"


def test_reducing_one_element_is_a_reshape() -> None:
    graph = graph_of(2, 1, 3)
    reduce = Reduce(inputs=("x",), output="y", kind=Reduction.MEAN, axes=(1,), keepdims=False)
    after, _ = folded(graph, graph.add_op(reduce))
    assert ops(after) == "reshape"
