"""CertifyAccumulators: the exact bound of each op, and each way to fail it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.errors import PassError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Interpolate,
    Op,
    QAdd,
    QAddRescaled,
    QAddWide,
    QAveragePool2d,
    QConv2d,
    QDense,
    QDiv,
    QMatMul,
    QMul,
    QPRelu,
    QReduceSum,
    QRescale,
    QSoftmax,
)
from qcomp.ir.tensor import DType, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.quant.binary_constants import (
    add_constants,
    add_wide_constants,
    average_multipliers,
    div_constants,
    prelu_constants,
)
from qcomp.quant.fixed_point import Form, Requantize, multiplier_onnx
from qcomp.quant.gemmlowp import exp_table as exp_table_tflite
from qcomp.quant.qparams import SOFTMAX, SOFTMAX_16, QParams

Q = QParams(0.1, -128)
NARROW, WIDE, TFLITE, AWAY, ONNX, QUOTIENT = (Requantize(form, 0) for form in Form)
SCALAR: dict[str, Any] = {"multiplier": 2**30, "shift": 31, "requantize": WIDE}


def graph_with(op: Op, shape: tuple[int, ...], *constants: np.ndarray) -> Graph:
    """`op` on as many inputs of `shape` as its constants leave."""
    graph = Graph("g")
    activations = len(op.inputs) - len(constants)
    for id in op.inputs[:activations]:
        if id not in graph:
            graph.add_input(id, TensorType(DType.I8, shape))
            graph.update_tensor(replace(graph.tensor(id), qparams=Q))
    for id, data in zip(op.inputs[activations:], constants, strict=True):
        graph.add_constant(id, data)
    graph.add_op(op)
    graph.update_tensor(replace(graph.tensor(op.output), qparams=Q))
    graph.outputs["y"] = op.output
    return graph


def dense(
    weight: list[list[int]],
    bias: list[int],
    multiplier: list[int],
    shift: list[int],
    requantize: Requantize,
) -> Graph:
    op = QDense(
        inputs=("x", "w", "b", "m", "s"), output="y", x_zero_point=-128, requantize=requantize
    )
    constants = [np.array(v, np.int32) for v in (bias, multiplier, shift)]
    return graph_with(op, (1, len(weight[0])), np.array(weight, np.int8), *constants)


def certify(graph: Graph) -> str:
    after, log = run_pass(graph, CertifyAccumulators())
    assert str(after) == str(graph)
    return log.text


def failure(graph: Graph) -> str:
    with pytest.raises(PassError, match="accumulators are not certified") as error:
        certify(graph)
    return str(error.value)


def test_head_room_is_noted_in_bits() -> None:
    graph = dense([[1, -2], [3, 3]], [0, 518], [300, 300], [0, 0], NARROW)
    assert certify(graph) == "note y: 20.0 bits of head-room"


def test_a_sum_that_just_fits_is_certified() -> None:
    largest = 2**31 - 1 - 3 * 255
    assert "0.0 bits" in certify(dense([[1, -2]], [largest], [2**30], [40], WIDE))


def test_a_sum_that_just_overflows_is_named_by_op_and_channel() -> None:
    largest = 2**31 - 3 * 255
    message = failure(dense([[1, 1], [1, -2]], [0, -largest], [2**30] * 2, [40] * 2, WIDE))
    assert "%y = q_dense(%x" in message
    assert f"channel 1: the sum can reach {2**31}, expected less than 2^31" in message
    assert "channel 0" not in message


def test_the_rounding_of_the_narrow_form_counts() -> None:
    largest = 2**31 - 1 - 255 - 2**9
    assert "0.0 bits" in certify(dense([[1]], [largest], [300], [10], NARROW))
    assert "the sum can reach" in failure(dense([[1]], [largest + 1], [300], [10], NARROW))


def test_the_left_shift_of_the_tflite_form_counts() -> None:
    assert "0.0 bits" in certify(dense([[1]], [2**27 - 272], [2**30], [4], TFLITE))
    assert "the sum can reach" in failure(dense([[1]], [2**27 - 271], [2**30], [4], TFLITE))


def test_half_of_the_divisor_of_a_quotient_counts() -> None:
    assert "0.0 bits" in certify(dense([[1]], [2**31 - 256 - 5], [11], [0], QUOTIENT))
    assert "the sum can reach" in failure(dense([[1]], [2**31 - 255 - 5], [11], [0], QUOTIENT))
    message = failure(dense([[1]], [0], [0], [1], QUOTIENT))
    assert "form quotient expects 1 <= multiplier < 2147483648 and 0 <= shift <= 0" in message


def sum_of_rescaled(**changes: Any) -> Graph:
    factors: dict[str, Any] = {
        "a_multiplier": 2**30, "a_shift": 0, "b_multiplier": 2**30, "b_shift": -1,
        "multiplier": 2**30, "shift": -18, "left_shift": 20,
    }  # fmt: skip
    op = QAddRescaled(
        inputs=("a", "b"), output="y", a_zero_point=-128, b_zero_point=-128,
        b_sign=1, requantize=TFLITE, **{**factors, **changes},
    )  # fmt: skip
    return graph_with(op, (4,))


def test_each_operand_and_the_sum_of_rescaled_operands_fit() -> None:
    """255 * 2^20 and half of that, rounded: 28.6 bits are taken."""
    assert certify(sum_of_rescaled()) == "note y: 2.4 bits of head-room"
    assert "channel 0: the sum can reach" in failure(sum_of_rescaled(a_shift=4))
    assert "channel 1: the sum can reach" in failure(sum_of_rescaled(left_shift=22, b_shift=2))
    assert "channel 2: the sum can reach" in failure(sum_of_rescaled(a_shift=3, b_shift=1))
    assert "channel 1: multiplier -1" in failure(sum_of_rescaled(b_multiplier=-1))
    assert "channel 2: multiplier 2147483648" in failure(sum_of_rescaled(multiplier=2**31))


@pytest.mark.parametrize("count", [4095, 4096])
def test_exponentials_of_tflite_lose_12_bits_before_they_are_added(count: int) -> None:
    op = QSoftmax(inputs=("x", "t"), output="y", axis=1, form=Form.TFLITE)
    graph = graph_with(op, (1, count), exp_table_tflite(0.1))
    graph.update_tensor(replace(graph.tensor("y"), qparams=SOFTMAX))
    if count < 4096:
        assert "0.0 bits" in certify(graph)
    else:
        assert "the sum can reach 2147483648" in failure(graph)


@given(st.integers(-128, 127), st.integers(-128, 127), st.integers(-127, 127))
def test_the_range_of_the_input_bounds_its_values(low: int, high: int, zero: int) -> None:
    low, high = min(low, high), max(low, high)
    zero = min(max(zero, low), high)
    graph = dense([[127] * 4], [0], [2**30], [40], WIDE)
    op = graph.op("y")
    graph.replace_op(replace(op, x_zero_point=zero))
    graph.update_tensor(replace(graph.tensor("x"), qparams=QParams(0.1, zero, low, high)))
    bits = 31 - np.log2(max(4 * 127 * max(zero - low, high - zero), 1))
    assert certify(graph) == f"note y: {bits:.1f} bits of head-room"


@pytest.mark.parametrize(
    ("requantize", "multiplier", "shift", "expected"),
    [
        (NARROW, 256, 3, "form narrow expects 257 <= multiplier < 32768"),
        (NARROW, 2**15, 3, "form narrow expects 257 <= multiplier < 32768"),
        (NARROW, 300, -1, "0 <= shift <= 30"),
        (NARROW, 300, 31, "0 <= shift <= 30"),
        (WIDE, -1, 3, "form wide expects 0 <= multiplier < 2147483648"),
        (WIDE, 5, 0, "1 <= shift <= 62"),
        (WIDE, 5, 63, "1 <= shift <= 62"),
        (TFLITE, -1, 0, "form tflite expects 0 <= multiplier < 2147483648"),
        (TFLITE, 2**30, -32, "-31 <= shift <= 30"),
        (ONNX, 0x7F800000, 0, "form onnx expects 0 <= multiplier < 2139095040"),
        (ONNX, multiplier_onnx(0.5)[0], 1, "0 <= shift <= 0"),
    ],
)
def test_constants_outside_the_form_s_claim_are_named_by_channel(
    requantize: Requantize, multiplier: int, shift: int, expected: str
) -> None:
    good = {NARROW: (300, 3), WIDE: (2**30, 31), TFLITE: (2**30, 0), ONNX: (1, 0)}[requantize]
    message = failure(dense([[1]] * 2, [0, 0], [good[0], multiplier], [good[1], shift], requantize))
    assert f"channel 1: multiplier {multiplier} and shift {shift}; " in message
    assert expected in message
    assert "channel 0" not in message


@pytest.mark.parametrize("requantize", [NARROW, WIDE, TFLITE, ONNX])
def test_constants_at_the_edge_of_the_claim_are_certified(requantize: Requantize) -> None:
    low, high = {
        NARROW: ((257, 0), (2**15 - 1, 30)),
        WIDE: ((0, 1), (2**31 - 1, 62)),
        TFLITE: ((0, -31), (2**31 - 1, 20)),
        ONNX: ((0, 0), (0x7F7FFFFF, 0)),
    }[requantize]
    graph = dense([[1]] * 2, [0, 0], [low[0], high[0]], [low[1], high[1]], requantize)
    assert "note y" in certify(graph)


def test_each_op_that_fails_is_reported_at_once() -> None:
    graph = dense([[1]], [2**31 - 1], [300], [3], NARROW)
    second = replace(graph.op("y"), output="z")
    graph.add_op(second)
    graph.update_tensor(replace(graph.tensor("z"), qparams=Q))
    graph.outputs["z"] = "z"
    message = failure(graph)
    assert "%y = q_dense" in message
    assert "%z = q_dense" in message


def test_a_convolution_counts_the_taps_of_its_group() -> None:
    op = QConv2d(
        inputs=("x", "w", "b", "m", "s"),
        output="y",
        x_zero_point=-128,
        requantize=WIDE,
        groups=2,
    )
    weight = np.array([[[[1], [-1]]], [[[2], [2]]]], np.int8)
    constants = [np.array([v] * 2, np.int32) for v in (4, 2**30, 31)]
    assert certify(graph_with(op, (1, 3, 3, 2), weight, *constants)) == (
        "note y: 21.0 bits of head-room"
    )


MATMUL = QMatMul(inputs=("a", "a"), output="y", a_zero_point=-128, b_zero_point=-128, **SCALAR)
MUL = QMul(inputs=("a", "b"), output="y", a_zero_point=-128, b_zero_point=-128, **SCALAR)
SUM = QReduceSum(inputs=("x",), output="y", axes=(0, 1), keepdims=True, x_zero_point=-128, **SCALAR)


@pytest.mark.parametrize(
    ("op", "shape", "largest"),
    [(MATMUL, (4, 4), 4 * 255 * 255), (MUL, (2,), 255 * 255), (SUM, (3, 5), 15 * 255)],
)
def test_sums_without_weights_are_bounded_by_their_terms(
    op: Op, shape: tuple[int, ...], largest: int
) -> None:
    bits = 31 - np.log2(largest)
    assert certify(graph_with(op, shape)) == f"note y: {bits:.1f} bits of head-room"


@pytest.mark.parametrize(
    ("op", "shape"), [(MATMUL, (33026, 33026)), (SUM, (2**12, 2**12))], ids=["matmul", "sum"]
)
def test_too_many_terms_are_a_failure(op: Op, shape: tuple[int, ...]) -> None:
    assert "the sum can reach" in failure(graph_with(op, shape))


@pytest.mark.parametrize("op", [MATMUL, MUL, SUM])
def test_scalar_constants_must_keep_the_form_s_claim(op: Any) -> None:
    assert "form wide expects" in failure(graph_with(replace(op, shift=0), (2, 2)))


def test_an_average_pool_is_bounded_by_its_window() -> None:
    multipliers, shift = average_multipliers(0.1, 0.1, 6)
    op = QAveragePool2d(
        inputs=("x", "m"),
        output="y",
        x_zero_point=-128,
        shift=shift,
        requantize=WIDE,
        kernel=(2, 3),
    )
    bits = 31 - np.log2(6 * 255)
    assert f"{bits:.1f} bits" in certify(graph_with(op, (1, 4, 4, 1), multipliers))
    narrow = replace(op, requantize=NARROW, shift=5)
    multipliers = np.array([0, 300, 300, 300, 300, 300, 300], np.int32)
    assert "note y" in certify(graph_with(narrow, (1, 4, 4, 1), multipliers))
    multipliers[3] = 256
    message = failure(graph_with(narrow, (1, 4, 4, 1), multipliers))
    assert "multiplier 256 and shift 5" in message


def test_an_addition_must_fit_its_16_bit_lanes() -> None:
    constants = add_constants(0.1, 0.1, 0.1, subtract=True)
    assert constants is not None
    op = QAdd(
        inputs=("a", "b"),
        output="y",
        a_zero_point=-128,
        b_zero_point=-128,
        a_multiplier=constants.a_multiplier,
        b_multiplier=constants.b_multiplier,
        fraction_bits=constants.fraction_bits,
        zero_point=0,
    )
    assert "0.0 bits" in certify(graph_with(op, (2,)))
    wider = replace(op, fraction_bits=op.fraction_bits + 4)
    assert "expected less than 2^15" in failure(graph_with(wider, (2,)))
    nothing = np.full(2, -128, np.int8)
    large = replace(op, b_multiplier=2**15)
    assert "can reach 32768" in failure(graph_with(large, (2,), nothing))


def test_a_constant_operand_counts_with_its_own_values() -> None:
    op = replace(MUL, b_zero_point=0)
    bits = 31 - np.log2(255 * 3)
    graph = graph_with(op, (2,), np.array([-3, 2], np.int8))
    assert certify(graph) == f"note y: {bits:.1f} bits of head-room"


def test_a_wide_addition_must_fit_32_bits() -> None:
    ma, mb, shift = add_wide_constants(1.0, 0.001, 0.5, subtract=False)
    op = QAddWide(
        inputs=("a", "b"),
        output="y",
        a_zero_point=-128,
        b_zero_point=-128,
        a_multiplier=ma,
        b_multiplier=mb,
        shift=shift,
        zero_point=0,
    )
    assert "note y" in certify(graph_with(op, (2,)))
    assert "expected less than 2^31" in failure(graph_with(replace(op, a_multiplier=2**24), (2,)))


def test_a_division_must_fit_30_bits() -> None:
    multiplier, shift = div_constants(0.1, 0.1, 0.1)
    op = QDiv(
        inputs=("a", "b"),
        output="y",
        a_zero_point=-128,
        b_zero_point=-128,
        multiplier=multiplier,
        shift=shift,
        zero_point=0,
    )
    assert "note y" in certify(graph_with(op, (2,)))
    assert "expected less than 2^30" in failure(graph_with(replace(op, shift=23), (2,)))


def test_a_prelu_must_fit_32_bits() -> None:
    positive, negatives, shift = prelu_constants(0.1, 0.1, np.array([0.25, -0.5]))
    op = QPRelu(
        inputs=("x", "m"),
        output="y",
        x_zero_point=-128,
        positive_multiplier=positive,
        shift=shift,
        zero_point=0,
    )
    assert "note y" in certify(graph_with(op, (1, 2), negatives))
    steep = negatives * np.int32(2**5)
    assert "expected less than 2^31" in failure(graph_with(op, (1, 2), steep))


# ------------------------------------------------------------- 16-bit activations

Q16 = QParams(0.1, 0, -32768, 32767)
TO_16 = Requantize(Form.WIDE, 0, -32768, 32767, 16)


def wide_graph(op: Op, shape: tuple[int, ...], *constants: np.ndarray) -> Graph:
    """`op` on i16."""
    graph = Graph("g")
    activations = len(op.inputs) - len(constants)
    for id in op.inputs[:activations]:
        graph.add_input(id, TensorType(DType.I16, shape))
        graph.update_tensor(replace(graph.tensor(id), qparams=Q16))
    for id, data in zip(op.inputs[activations:], constants, strict=True):
        graph.add_constant(id, data)
    graph.add_op(op)
    graph.update_tensor(replace(graph.tensor(op.output), qparams=Q16))
    graph.outputs["y"] = op.output
    return graph


def layer_of(bias: np.ndarray, multiplier: int, shift: int) -> Graph:
    """|acc| of both channels is at most 32768 * 100 * 127 + |bias|."""
    op = QDense(inputs=tuple("xwbms"), output="y", x_zero_point=0, requantize=TO_16)
    constants = (np.full(2, multiplier, np.int32), np.full(2, shift, np.int32))
    return wide_graph(op, (1, 100), np.full((2, 100), 127, np.int8), bias, *constants)


REACH_OF_LAYER = 32768 * 100 * 127


@pytest.mark.parametrize("over", [0, 1])
def test_an_accumulator_of_32_bits_is_certified_by_its_own_size(over: int) -> None:
    bias = np.array([0, 2**31 - 1 - REACH_OF_LAYER + over], np.int32)
    graph = layer_of(bias, 2**31 - 1, 40)
    if over:
        fails(graph, "channel 1: the sum can reach 2147483648, expected less than 2^31")
    else:
        run_pass(graph, CertifyAccumulators())


@pytest.mark.parametrize("over", [0, 1])
def test_an_accumulator_of_64_bits_is_certified_by_its_product(over: int) -> None:
    m, shift = 2**24 - 1, 40
    most = (2**63 - 1 - 2 ** (shift - 1)) // m
    graph = layer_of(np.array([most - REACH_OF_LAYER + over, 0], np.int64), m, shift)
    if over:
        fails(graph, "channel 0: the sum can reach", "expected less than 2^63")
    else:
        run_pass(graph, CertifyAccumulators())


def test_a_bias_of_64_bits_is_not_bounded_by_the_arithmetic_of_the_bound() -> None:
    fails(layer_of(np.array([-(2**63), 0], np.int64), 2**24, 40), "expected less than 2^63")


PAIR: dict[str, Any] = {"inputs": ("a", "b"), "output": "y", "a_zero_point": 0, "b_zero_point": 0}
RESULT: dict[str, Any] = {"zero_point": 0, "qmin": -32768, "qmax": 32767, "bits": 16}


@pytest.mark.parametrize(
    ("op", "constants", "message"),
    [
        (QAddWide(**PAIR, a_multiplier=2**31, b_multiplier=1, shift=20, **RESULT), (),
         "multiplier 2147483648, expected less than 2^31"),
        (QAddWide(**PAIR, a_multiplier=1, b_multiplier=1, shift=64, **RESULT), (), "2^63"),
        (QDiv(**PAIR, multiplier=2**46, shift=0, **RESULT), (), "expected less than 2^61"),
        (QDiv(**PAIR, multiplier=1, shift=46, **RESULT), (), "expected less than 2^61"),
        (QMatMul(**PAIR, multiplier=2**31 - 1, shift=40, requantize=TO_16), (), "2^63"),
        (QPRelu(inputs=("x", "m"), output="y", x_zero_point=0, positive_multiplier=2**31, shift=31,
                **RESULT), (np.zeros(1, np.int32),), "multiplier 2147483648"),
        (QReduceSum(inputs=("x",), output="y", axes=(0, 1), keepdims=False, x_zero_point=0,
                    multiplier=2**31 - 1, shift=62, requantize=TO_16), (), "2^63"),
        (Interpolate(inputs=("x", "t"), output="y", step_bits=7, **RESULT),
         (np.full(513, 2**24, np.int32),), "expected less than 2^31"),
        (Interpolate(inputs=("x", "t"), output="y", step_bits=7, **RESULT),
         ((np.arange(513, dtype=np.int32) % 2 * 2 - 1) * (2**23 + 2**18),),
         "expected less than 2^31"),
        (QRescale(inputs=("x",), output="y", x_zero_point=0, multiplier=1, shift=0,
                  requantize=TO_16), (), "1 <= shift <= 62"),
    ],
    ids=lambda v: v.mnemonic if isinstance(v, Op) else "",
)  # fmt: skip
def test_each_way_to_break_an_op_of_16_bits_is_found(
    op: Op, constants: tuple[np.ndarray, ...], message: str
) -> None:
    fails(wide_graph(op, (600, 600), *constants), message)


def test_a_softmax_with_larger_exponentials_is_not_certified() -> None:
    op = QSoftmax(inputs=("x", "e"), output="y", axis=1, bits=16)
    graph = wide_graph(op, (1, 30000), np.full(512, 2**30, np.int32))
    graph.update_tensor(replace(graph.tensor("y"), qparams=SOFTMAX_16))
    run_pass(graph, CertifyAccumulators())
    eight = QSoftmax(inputs=("x", "e"), output="y", axis=1)
    narrow = graph_with(eight, (1, 30000), np.full(256, 2**17, np.int32))
    narrow.update_tensor(replace(narrow.tensor("y"), qparams=SOFTMAX))
    fails(narrow, "expected less than 2^31")


def fails(graph: Graph, *messages: str) -> None:
    with pytest.raises(PassError) as caught:
        run_pass(graph, CertifyAccumulators())
    for message in messages:
        assert message in str(caught.value)
