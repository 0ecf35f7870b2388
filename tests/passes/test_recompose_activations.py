"""Activation functions that were written out in parts become one op again."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU,
    Add,
    Binary,
    Clamp,
    ClampRange,
    Div,
    Function,
    Maximum,
    Mul,
    Sub,
    Unary,
)
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.recompose_activations import RecomposeActivations


class Formula:
    """Writes a function of `x` in parts; scalars are constant tensors or, folded, AFFINE ops."""

    def __init__(self, *, affine: bool = False, swapped: bool = False) -> None:
        self.graph = Graph("formula")
        self.x = self.graph.add_input("x", TensorType(DType.F32, (3, 67)))
        self.affine, self.swapped = affine, swapped

    def binary(self, op: type[Binary], a: TensorId, b: TensorId) -> TensorId:
        commutes = op in (Add, Mul, Maximum)
        inputs = (b, a) if self.swapped and commutes else (a, b)
        return self.graph.add_op(op(inputs=inputs, output=self.graph.fresh_id(op.mnemonic)))

    def scalar(self, value: float) -> TensorId:
        return self.graph.add_constant("k", np.array([value], np.float32))

    def mul(self, a: TensorId, b: TensorId | float) -> TensorId:
        if isinstance(b, str):
            return self.binary(Mul, a, b)
        return self.linear(a, b, 0.0) if self.affine else self.binary(Mul, a, self.scalar(b))

    def add(self, a: TensorId, b: TensorId | float) -> TensorId:
        if isinstance(b, str):
            return self.binary(Add, a, b)
        return self.linear(a, 1.0, b) if self.affine else self.binary(Add, a, self.scalar(b))

    def div(self, a: TensorId, b: float) -> TensorId:
        return self.mul(a, 1.0 / b) if self.affine else self.binary(Div, a, self.scalar(b))

    def linear(self, x: TensorId, alpha: float, beta: float) -> TensorId:
        return self.of(Function.AFFINE, x, alpha, beta)

    def of(self, f: Function, x: TensorId, alpha: float = 1.0, beta: float = 0.0) -> TensorId:
        id = self.graph.fresh_id(f.value)
        return self.graph.add_op(Unary(inputs=(x,), output=id, function=f, alpha=alpha, beta=beta))

    def clamp(self, x: TensorId, low: float, high: float) -> TensorId:
        id = self.graph.fresh_id("clamp")
        return self.graph.add_op(Clamp(inputs=(x,), output=id, clamp=ClampRange(low, high)))

    def returning(self, *outputs: TensorId) -> Graph:
        self.graph.outputs = {f"y{i}": t for i, t in enumerate(outputs)}
        return self.graph


def silu(f: Formula) -> TensorId:
    return f.mul(f.x, f.of(Function.SIGMOID, f.x))


def silu_by_division(f: Formula) -> TensorId:
    return f.binary(Div, f.x, f.add(f.of(Function.EXP, f.of(Function.NEG, f.x)), 1.0))


def quick_gelu(f: Formula) -> TensorId:
    return f.mul(f.x, f.of(Function.SIGMOID, f.mul(f.x, 1.702)))


def hard_swish_of_hard_sigmoid(f: Formula) -> TensorId:
    return f.mul(f.x, f.of(Function.HARD_SIGMOID, f.x, 1 / 6, 0.5))


def hard_swish_divided_last(f: Formula) -> TensorId:
    return f.div(f.mul(f.x, f.clamp(f.add(f.x, 3.0), 0, 6)), 6.0)


def hard_swish_divided_first(f: Formula) -> TensorId:
    return f.mul(f.x, f.div(f.clamp(f.add(f.x, 3.0), 0, 6), 6.0))


def hard_swish_multiplied_first(f: Formula) -> TensorId:
    return f.mul(f.mul(f.x, 1 / 6), f.clamp(f.add(f.x, 3.0), 0, 6))


def hard_sigmoid(f: Formula) -> TensorId:
    return f.div(f.clamp(f.add(f.x, 3.0), 0, 6), 6.0)


def hard_sigmoid_of_keras(f: Formula) -> TensorId:
    return f.clamp(f.add(f.mul(f.x, 0.2), 0.5), 0, 1)


def erf_half(f: Formula, half: TensorId) -> TensorId:
    """half * (1 + erf(x / sqrt(2)))"""
    return f.mul(half, f.add(f.of(Function.ERF, f.div(f.x, math.sqrt(2))), 1.0))


def gelu_halved_first(f: Formula) -> TensorId:
    return erf_half(f, f.mul(f.x, 0.5))


def gelu_halved_last(f: Formula) -> TensorId:
    return f.mul(erf_half(f, f.x), 0.5)


def gelu_halved_inside(f: Formula) -> TensorId:
    erf = f.of(Function.ERF, f.mul(f.x, 0.70710678))
    return f.mul(f.x, f.mul(f.add(erf, 1.0), 0.5))


def gelu_tanh(f: Formula) -> TensorId:
    cube = f.mul(f.of(Function.POW, f.x, 3.0), 0.044715)
    inner = f.mul(f.add(f.x, cube), math.sqrt(2 / math.pi))
    return f.mul(f.mul(f.x, 0.5), f.add(f.of(Function.TANH, inner), 1.0))


def gelu_tanh_factored(f: Formula) -> TensorId:
    square = f.mul(f.x, f.x)
    inner = f.mul(f.mul(f.x, 0.79788456), f.add(f.mul(square, 0.044715), 1.0))
    return f.mul(f.x, f.mul(f.add(f.of(Function.TANH, inner), 1.0), 0.5))


def mish(f: Formula) -> TensorId:
    return f.mul(f.x, f.of(Function.TANH, f.of(Function.SOFTPLUS, f.x)))


def mish_in_more_parts(f: Formula) -> TensorId:
    softplus = f.of(Function.LOG, f.add(f.of(Function.EXP, f.x), 1.0))
    return f.mul(f.x, f.of(Function.TANH, softplus))


def leaky_relu(f: Formula) -> TensorId:
    return f.binary(Maximum, f.x, f.mul(f.x, 0.1))


def sigmoid(f: Formula) -> TensorId:
    exp = f.of(Function.EXP, f.of(Function.NEG, f.x))
    return f.of(Function.RECIPROCAL, f.add(exp, 1.0))


SPELLINGS: dict[Callable[[Formula], TensorId], tuple[Function, float, float]] = {
    silu: (Function.SILU, 1.0, 0.0),
    silu_by_division: (Function.SILU, 1.0, 0.0),
    quick_gelu: (Function.SILU, 1.702, 0.0),
    hard_swish_of_hard_sigmoid: (Function.HARD_SWISH, 1.0, 0.0),
    hard_swish_divided_last: (Function.HARD_SWISH, 1.0, 0.0),
    hard_swish_divided_first: (Function.HARD_SWISH, 1.0, 0.0),
    hard_swish_multiplied_first: (Function.HARD_SWISH, 1.0, 0.0),
    hard_sigmoid: (Function.HARD_SIGMOID, 1 / 6, 0.5),
    hard_sigmoid_of_keras: (Function.HARD_SIGMOID, 0.2, 0.5),
    gelu_halved_first: (Function.GELU, 1.0, 0.0),
    gelu_halved_last: (Function.GELU, 1.0, 0.0),
    gelu_halved_inside: (Function.GELU, 1.0, 0.0),
    gelu_tanh: (Function.GELU_TANH, 1.0, 0.0),
    gelu_tanh_factored: (Function.GELU_TANH, 1.0, 0.0),
    mish: (Function.MISH, 1.0, 0.0),
    mish_in_more_parts: (Function.MISH, 1.0, 0.0),
    leaky_relu: (Function.LEAKY_RELU, 0.1, 0.0),
    sigmoid: (Function.SIGMOID, 1.0, 0.0),
}


def recomposed(before: Graph) -> tuple[Graph, PassLog]:
    """The graph after the pass, which computes the same and which the pass leaves alone."""
    after, log = run_pass(before, RecomposeActivations())
    x = {"x": np.linspace(-9, 9, 201, dtype=np.float32).reshape(3, 67)}
    expected = evaluate(before, x)
    for name, y in evaluate(after, x).items():
        assert_allclose(y, expected[name], rtol=1e-5, atol=2e-5)
    assert str(run_pass(after, RecomposeActivations())[0]) == str(after)
    return after, log


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("affine", [False, True], ids=["constants", "affine"])
@pytest.mark.parametrize("swapped", [False, True], ids=["as-is", "swapped"])
def test_a_function_in_parts_becomes_one_op(
    spelling: Callable[[Formula], TensorId], affine: bool, swapped: bool
) -> None:
    f = Formula(affine=affine, swapped=swapped)
    y = spelling(f)
    after, log = recomposed(f.returning(y))
    function, alpha, beta = SPELLINGS[spelling]
    assert after.ops() == [
        Unary(inputs=("x",), output=y, function=function, alpha=alpha, beta=beta)
    ]
    assert f"did  {y} is {function.value}(" in log.text


def test_a_function_in_the_middle_of_a_net_is_found() -> None:
    f = Formula()
    y = f.clamp(f.mul(silu(f), 3.0), -2, 2)
    after, _ = recomposed(f.returning(y))
    assert [op.mnemonic for op in after.ops()] == ["unary", "mul", "clamp"]


def test_two_functions_in_a_row_are_both_found() -> None:
    f = Formula()
    f.x = silu(f)
    after, log = recomposed(f.returning(gelu_halved_last(f)))
    assert [op.function for op in after.ops() if isinstance(op, Unary)] == [
        Function.SILU,
        Function.GELU,
    ]
    assert log.count("did") == 2


def test_a_part_that_others_read_keeps_the_parts() -> None:
    f = Formula()
    y = silu(f)
    before = f.returning(y, "sigmoid")
    after, log = recomposed(before)
    assert str(after) == str(before)
    assert log.text == "skip mul: silu(alpha=1, beta=0) of %x, but %sigmoid has other users"


def test_a_part_that_another_op_reads_keeps_the_parts() -> None:
    f = Formula()
    y = silu(f)
    after, log = recomposed(f.returning(y, f.of(Function.SQRT, "sigmoid")))
    assert len(after.ops()) == 3
    assert "%sigmoid has other users" in log.text


def test_a_function_without_a_name_stays_and_is_named_in_the_log() -> None:
    f = Formula()
    y = f.mul(f.x, f.of(Function.SIN, f.x))
    before = f.returning(y)
    after, log = recomposed(before)
    assert str(after) == str(before)
    assert log.text == "skip mul: a function of %x alone, but none that has a name"


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_clamps_and_affine_functions_in_a_row_are_not_activations(low: float) -> None:
    f = Formula()
    y = f.clamp(f.clamp(f.linear(f.linear(f.x, 2.0, 0.0), 0.5, 0.0), low, 1), low, math.inf)
    before = f.returning(y)
    after, log = recomposed(before)
    assert str(after) == str(before)
    assert log.text == ""


def test_a_gate_from_another_tensor_is_no_function_of_one_variable() -> None:
    f = Formula()
    gate = f.graph.add_input("gate", TensorType(DType.F32, (3, 67)))
    before = f.returning(f.mul(f.x, f.of(Function.SIGMOID, gate)))
    after, log = run_pass(before, RecomposeActivations())
    assert str(after) == str(before)
    assert log.text == ""


def test_a_gate_per_channel_is_no_function_of_one_variable() -> None:
    f = Formula()
    k = f.graph.add_constant("k", np.linspace(1, 2, 67, dtype=np.float32))
    y = f.mul(f.x, f.of(Function.SIGMOID, f.binary(Mul, f.x, k)))
    before = f.returning(y)
    assert str(recomposed(before)[0]) == str(before)


def test_functions_that_are_only_close_are_told_apart() -> None:
    f = Formula()
    y = f.binary(Sub, gelu_tanh(f), f.mul(gelu_halved_first(f), 0.0))
    after, _ = recomposed(f.returning(y))
    assert [op.function for op in after.ops() if isinstance(op, Unary)] == [Function.GELU_TANH]


def test_relu_after_relu_is_not_a_leaky_relu() -> None:
    f = Formula()
    y = f.clamp(f.clamp(f.x, 0, math.inf), RELU.low, RELU.high)
    after, _ = recomposed(f.returning(y))
    assert [op.mnemonic for op in after.ops()] == ["clamp", "clamp"]
