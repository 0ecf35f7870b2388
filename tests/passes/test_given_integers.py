"""Integers that a model brought along reach the kernels as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from qcomp.errors import PassError
from qcomp.execute.session import FloatSession
from qcomp.ir import DType, Form, Graph, TensorType, parse, verify
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import (
    RELU,
    Add,
    Conv2d,
    Dense,
    Dequantize,
    IntegerConstant,
    QAdd,
    Quantize,
    QWeighted,
)
from qcomp.ir.tensor import TensorId
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.passes.correct_bias import CorrectBias
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.snap_scales import SnapScales
from qcomp.quant.qparams import QParams, quantize

X = QParams(0.05, 3)
Y = QParams(0.5, -10)
RNG = np.random.default_rng(7)
WEIGHT = RNG.integers(-128, 128, (4, 2, 2, 3)).astype(np.int8)
WEIGHT[0, 0, 0] = -128
SCALE = np.float32([0.01, 0.02, 0.03, 0.005]).astype(np.float64)
BIAS = RNG.integers(-900, 900, 4).astype(np.int32)


def given_constant(
    graph: Graph, name: str, x: NDArray[np.integer], scale: NDArray[np.float64], *zero_point: int
) -> TensorId:
    zero = np.array(zero_point or [0] * scale.size, np.int8)
    constants = (x, scale, zero)
    ids = [graph.add_constant(f"{name}.{i}", data) for i, data in enumerate(constants)]
    return graph.add_op(IntegerConstant(inputs=tuple(ids), output=name, axis=0))


def round_trip(graph: Graph, t: TensorId, q: QParams) -> TensorId:
    graph.add_op(Quantize(inputs=(t,), output=f"{t}.q", bits=q.bits))
    graph.update_tensor(replace(graph.tensor(f"{t}.q"), qparams=q))
    return graph.add_op(Dequantize(inputs=(f"{t}.q",), output=f"{t}.dq"))


def imported(*zero_point: int, scale: NDArray[np.float64] = SCALE, bias: float = X.scale) -> Graph:
    """A convolution as a QDQ model has it, with the integers of its file."""
    graph = Graph("imported")
    x = round_trip(graph, graph.add_input("x", TensorType(DType.F32, (1, 5, 6, 3))), X)
    w = given_constant(graph, "w", WEIGHT, scale, *zero_point)
    b = given_constant(graph, "b", BIAS, scale * bias)
    op = Conv2d(inputs=(x, w, b), output="y", padding=(1, 0, 0, 1), clamp=RELU)
    graph.outputs["out"] = round_trip(graph, graph.add_op(op), Y)
    verify(graph, Form.QDQ)
    return graph


def lowered(graph: Graph) -> tuple[Graph, QWeighted]:
    integer, _ = run_pass(graph, FuseRequantize())
    run_pass(integer, CertifyAccumulators())
    (layer,) = [op for op in integer.ops() if isinstance(op, QWeighted)]
    return integer, layer


SAMPLE = RNG.normal(size=(1, 5, 6, 3)).astype(np.float32) * 3


def test_given_integers_are_never_rounded_again() -> None:
    integer, layer = lowered(imported())
    assert_array_equal(integer.data(layer.weight), WEIGHT)
    assert_array_equal(integer.data(layer.bias), BIAS)
    assert layer.weight_zero_point is None
    assert integer.data(layer.weight).min() == -128


@pytest.mark.parametrize("zero_point", [(5, -128, 127, 0), (9, 9, 9, 9)])
def test_weights_keep_their_zero_points(zero_point: tuple[int, ...]) -> None:
    integer, layer = lowered(imported(*zero_point))
    assert layer.weight_zero_point is not None
    assert integer.data(layer.weight_zero_point).tolist() == list(zero_point)
    assert str(parse(str(integer))) == str(integer)


@pytest.mark.parametrize("zero_point", [(), (5, -128, 127, 0)])
def test_the_integer_form_computes_what_the_floats_do(zero_point: tuple[int, ...]) -> None:
    qdq = imported(*zero_point)
    integer, _ = lowered(qdq)
    got = evaluate(integer, {"x": quantize(SAMPLE, X)})["out"].astype(np.float64)
    expected = evaluate(qdq, {"x": SAMPLE})["out"] / Y.scale + Y.zero_point
    assert np.abs(got - expected).max() <= 1.0
    assert np.ptp(got) > 20


def test_one_zero_point_serves_all_channels() -> None:
    each, one = imported(9, 9, 9, 9), imported(9, 9, 9, 9)
    graph, layer = lowered(one)
    single = graph.add_constant("single", np.array([9], np.int8))
    graph.replace_op(layer.with_input(5, single))
    integer, _ = lowered(each)
    x = {"x": quantize(SAMPLE, X)}
    assert_array_equal(evaluate(graph, x)["out"], evaluate(integer, x)["out"])


@pytest.mark.parametrize("zero_point", [(), (5, -128, 127, 0)])
def test_onnxruntime_reads_the_integers_as_we_do(zero_point: tuple[int, ...]) -> None:
    qdq = imported(*zero_point)
    expected = evaluate(qdq, {"x": SAMPLE})["out"]
    got = FloatSession(qdq).run({"x": SAMPLE})["out"]
    assert_allclose(got, expected, atol=Y.scale * 1.01)
    assert np.mean(got == expected) > 0.95


def test_scales_of_given_integers_do_not_move() -> None:
    qdq = imported()
    after, log = run_pass(qdq, SnapScales())
    assert str(after) == str(qdq)
    assert "skip y: %w was given in integers" in log.text


def test_a_bias_beside_given_weights_is_not_corrected() -> None:
    qdq = imported()
    correction = CorrectBias({"x": np.ones(3)}, {"y": WEIGHT.astype(np.float32)})
    after, log = run_pass(qdq, correction)
    assert str(after) == str(qdq)
    assert "skip y: %w was given in integers" in log.text


def test_a_bias_in_other_steps_is_refused() -> None:
    with pytest.raises(PassError, match=r"y: the bias has the scale .*; expected scale_x \* scale"):
        lowered(imported(bias=X.scale * 1.01))


def test_a_given_constant_is_an_operand_with_its_zero_point() -> None:
    graph = Graph("sum")
    x = round_trip(graph, graph.add_input("x", TensorType(DType.F32, (1, 4))), X)
    c = given_constant(graph, "c", np.array([[-128, 0, 7, 127]], np.int8), np.array([0.1]), 7)
    graph.outputs["out"] = round_trip(graph, graph.add_op(Add(inputs=(x, c), output="y")), Y)
    integer, _ = run_pass(graph, FuseRequantize())
    (add,) = integer.ops()
    assert isinstance(add, QAdd)
    assert add.b_zero_point == 7
    assert_array_equal(integer.data(add.b), [[-128, 0, 7, 127]])


def test_a_sum_of_centered_weights_that_leaves_32_bits_is_not_certified() -> None:
    integer, layer = lowered(imported(127, 127, 127, 127))
    bias = np.full(4, 2**31 - 12 * 255 * 131, np.int32)  # 131 is the largest |x - 3|
    integer.replace_op(layer.with_input(2, integer.add_constant("large", bias)))
    weight = np.full_like(WEIGHT, -128)
    integer.replace_op(integer.op("y.q").with_input(1, integer.add_constant("far", weight)))
    with pytest.raises(PassError, match="the sum can reach"):
        run_pass(integer, CertifyAccumulators())


def test_the_accumulator_is_as_wide_as_centered_weights_need() -> None:
    """Weights of 0 with a zero point of 127 are -127 each: 600 of them and an i16 leave 32 bits."""
    graph, wide = Graph("wide"), QParams(0.001, 0, -32768, 32767)
    x = round_trip(graph, graph.add_input("x", TensorType(DType.F32, (1, 600))), wide)
    w = given_constant(graph, "w", np.zeros((2, 600), np.int8), np.array([0.01]), 127)
    b = given_constant(graph, "b", np.array([5, -5], np.int32), np.array([0.001 * 0.01]))
    y = graph.add_op(Dense(inputs=(x, w, b), output="y"))
    graph.outputs["out"] = round_trip(graph, y, QParams(0.05, 0, -32768, 32767))
    integer, layer = lowered(graph)
    assert integer.type(layer.bias).dtype is DType.I64
