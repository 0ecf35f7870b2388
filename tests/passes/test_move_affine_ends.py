"""Affine functions at inputs and outputs are left to the floats outside, where that helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.calibration.moments import moments_of
from qcomp.ir.evaluate import evaluate
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Add,
    BatchNorm,
    Conv2d,
    Dense,
    Div,
    Function,
    Mul,
    Op,
    Sub,
    Transpose,
    Unary,
)
from qcomp.ir.parse import parse
from qcomp.ir.tensor import Array, DType, TensorId, TensorType
from qcomp.ir.text import arrays_of
from qcomp.ir.verify import VerifyError, verify
from qcomp.passes.base import run_pass
from qcomp.passes.move_affine_ends import MoveAffineEnds
from qcomp.quant.conversion import Conversion
from qcomp.quant.qparams import QParams

RANDOM = np.random.default_rng(5)
MEAN, STD = np.array([295.0, 1013.0, -50.0, 2048.0]), np.array([4.0, 8.0, 12.0, 30.0])


class Net:
    """Adds ops by their classes; arrays become constants."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph("g")
        self.graph.add_input("x", TensorType(DType.F32, shape))

    def __call__(self, kind: Callable[..., Op], *inputs: TensorId | Array, **how: object) -> str:
        ids = tuple(
            i if isinstance(i, str) else self.graph.add_constant("k", i.astype(np.float32))
            for i in inputs
        )
        return self.graph.add_op(kind(inputs=ids, output=self.graph.fresh_id("t"), **how))

    def dense(self, x: TensorId) -> str:
        return self(Dense, x, RANDOM.normal(size=(4, 4)), RANDOM.normal(size=4))

    def moved(self, y: TensorId, spread: float = 1.0) -> Graph:
        """After the pass, with the same function; the input is far from zero."""
        self.graph.outputs["y"] = y
        shape = self.graph.type("x").shape
        axis = shape.index(4)
        along = [-1 if i == axis else 1 for i in range(len(shape))]
        noise = spread * np.clip(RANDOM.normal(size=(8, *shape)), -3, 3)
        runs = [{"x": (MEAN.reshape(along) + STD.reshape(along) * n).astype("f4")} for n in noise]
        after, _ = run_pass(
            self.graph, MoveAffineEnds(lambda graph, ids: moments_of(graph, ids, runs))
        )
        inside = {n: through(after, n).inward(x) for n, x in runs[0].items()}
        found = through(after, "y").outward(evaluate(after, inside)["y"])
        assert_allclose(found, evaluate(self.graph, runs[0])["y"], rtol=1e-3, atol=1e-3)
        return after


def through(graph: Graph, name: str) -> Conversion:
    return graph.conversions.get(name, Conversion(0, (1.0,), (0.0,)))


def kinds(graph: Graph) -> list[str]:
    return [op.mnemonic for op in graph.ops()]


def standardized(net: Net, x: TensorId) -> str:
    return net(Div, net(Sub, x, MEAN), STD)


def test_standardisation_stands_before_the_input() -> None:
    net = Net(1, 4)
    after = net.moved(net.dense(standardized(net, "x")))
    assert kinds(after) == ["dense"]
    assert_allclose(after.conversions["x"].scale, STD, rtol=1e-6)
    assert_allclose(after.conversions["x"].offset, MEAN, rtol=1e-6)


def test_integers_of_the_caller_have_no_floats_before_them() -> None:
    net = Net(1, 4)
    bytes_ = replace(net.graph.tensor("x"), qparams=QParams(1.0, -128))
    net.graph.update_tensor(bytes_)
    after = net.moved(net.dense(standardized(net, "x")))
    assert kinds(after) == ["sub", "div", "dense"]
    assert after.conversions == {}


def test_all_affine_functions_in_a_row_are_one() -> None:
    net = Net(1, 4)
    z = net(Unary, "x", function=Function.AFFINE, alpha=0.5, beta=-3.0)
    z = net(Mul, net(Sub, MEAN / 2 - 3, z), 2 / STD)
    z = net(BatchNorm, z, -np.ones(4), np.zeros(4), np.zeros(4), np.ones(4), eps=0.0)
    after = net.moved(net.dense(z))
    assert kinds(after) == ["dense"]
    assert_allclose(after.conversions["x"].scale, STD, rtol=1e-5)


def test_what_stands_behind_a_transposition_is_along_the_input_s_own_axis() -> None:
    net = Net(1, 4, 3, 2)
    z = net(Sub, "x", MEAN.reshape(4, 1, 1))
    z = net(Transpose, z, permutation=(0, 2, 3, 1))
    y = net.dense(net(Mul, z, 1 / STD))
    after = net.moved(y)
    assert kinds(after) == ["transpose", "dense"]
    assert after.conversions["x"].axis == 1
    assert_allclose(after.conversions["x"].offset, MEAN, rtol=1e-6)


def test_the_same_holds_behind_an_output() -> None:
    net = Net(1, 2, 3, 4)
    y = net(Transpose, net.dense(net.dense(standardized(net, "x"))), permutation=(0, 3, 1, 2))
    y = net(Add, net(Mul, y, STD.reshape(4, 1, 1)), 50 * MEAN.reshape(4, 1, 1))
    after = net.moved(y)
    assert kinds(after) == ["dense", "dense", "transpose"]
    assert after.conversions["y"].axis == 1
    assert_allclose(after.conversions["y"].offset, 50 * MEAN, rtol=1e-6)


def test_an_end_where_steps_are_as_fine_stays_in_the_layer_beside_it() -> None:
    net = Net(1, 4)
    after = net.moved(net.dense(net(Mul, "x", np.full(4, 0.25))))
    assert kinds(after) == ["mul", "dense"]
    assert after.conversions == {}


def test_an_offset_that_padding_keeps_from_the_layer_moves_all_the_same() -> None:
    net = Net(1, 3, 3, 4)
    z = net(Sub, "x", np.full(4, 10.0))
    weight, bias = RANDOM.normal(size=(2, 3, 3, 4)), np.zeros(2)
    after = net.moved(net(Conv2d, z, weight, bias, padding=(1, 1, 1, 1)), spread=50.0)
    assert kinds(after) == ["conv2d"]


@pytest.mark.parametrize("divisor", [np.array([[4.0, 0.0, 12.0, 30.0]]), np.full((1, 4), np.inf)])
def test_what_can_not_be_undone_stays(divisor: Array) -> None:
    net = Net(1, 4)
    z = net(Mul, "x", 1 / np.where(divisor == 0, np.inf, divisor))
    assert kinds(net.moved(net.dense(z))) == ["mul", "dense"]


def test_an_input_of_integers_is_taken_as_it_is() -> None:
    net = Net(1, 4)
    tensor = net.graph.tensor("x")
    net.graph.update_tensor(replace(tensor, qparams=QParams(1.0, -128)))
    after = net.moved(net.dense(standardized(net, "x")))
    assert kinds(after) == ["sub", "div", "dense"]


def test_a_function_that_differs_along_two_axes_stays() -> None:
    net = Net(1, 2, 4)
    z = net(Sub, "x", RANDOM.normal(size=(2, 4)) + 1000)
    assert kinds(net.moved(net.dense(z))) == ["sub", "dense"]


def test_an_input_with_other_readers_and_an_output_that_is_read_stay() -> None:
    net = Net(1, 4)
    z = standardized(net, "x")
    y = net(Add, net.dense(net.dense(z)), 500 * MEAN)
    net.graph.outputs["other"] = net(Add, net(Mul, y, "x"), z)
    assert net.moved(y).conversions == {}


def test_nothing_is_measured_where_no_end_is_affine() -> None:
    net = Net(1, 4)
    net.graph.outputs["y"] = net(Unary, net.dense("x"), function=Function.TANH)

    def moments(graph: Graph, ids: object) -> dict[TensorId, object]:
        raise AssertionError("asked")

    run_pass(net.graph, MoveAffineEnds(moments))  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 4, 20])
def test_conversions_stand_in_the_text(channels: int) -> None:
    net = Net(1, channels)
    net.graph.outputs["y"] = net(Unary, "x", function=Function.TANH)
    scale, offset = RANDOM.normal(size=(2, channels))
    net.graph.conversions["x"] = Conversion.of(1, scale, offset)
    again = parse(str(net.graph), dict(arrays_of(net.graph)))
    assert again.conversions == net.graph.conversions
    assert str(again) == str(net.graph)
    assert net.graph.clone().conversions == net.graph.conversions


def test_only_inputs_and_outputs_are_converted() -> None:
    net = Net(1, 4)
    net.graph.outputs["y"] = net(Unary, "x", function=Function.TANH)
    net.graph.conversions["z"] = Conversion(0, (1.0,), (0.0,))
    with pytest.raises(VerifyError, match="z is converted; expected the name of an input"):
        verify(net.graph, Form.FLOAT)
