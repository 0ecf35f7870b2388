"""Scales that are tensors: what the ops compute, and which graphs use them rightly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.errors import PassError, VerifyError
from qcomp.ir import Form, Graph, parse, verify
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.evaluate.dynamic import quantize_by, scale_of, scale_parts
from qcomp.ir.ops import QuantizeBy, ScaleOf
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators

I16 = st.integers(-32768, 32767)
TEXT = """
graph @dynamic(%x: i16[2,4] qparams=(0.001, 0, -32768, 32767)) {{
  %w = constant : i8[3,4]
  %m = constant : i32[3]
  %s = constant : i32[3]
  %scale = scale_of(%x) {{x_zero_point=0}} : i32[2]
  %q = quantize_by(%x, %scale) {{x_zero_point=0}} : i8[2,4]
  %r = reshape(%q) {{shape=({rows}, 4)}} : i8[{rows},4]
  %y = q_dense_by(%r, %w, %scale, %m, %s) {{requantize=Requantize(form=wide, zero_point=0, \
qmin=-32768, qmax=32767, bits=16)}} : i16[{rows},3] qparams=(0.01, 0, -32768, 32767)
  return y=%y
}}
"""


def dynamic(shift: int = 35) -> Graph:
    constants = {
        "w": np.array([[1, -2, 3, 127], [-128, 5, 0, 9], [0, 0, 0, -1]], np.int8),
        "m": np.array([2**31 - 1, 2**30, 2**30 + 12345], np.int32),
        "s": np.full(3, shift, np.int32),
    }
    return parse(TEXT.format(rows=2), constants)


@given(st.integers(1, 65535))
def test_a_scale_is_a_127th_of_the_largest_value(largest: int) -> None:
    mantissa, shift = scale_parts(largest)
    assert 2**30 <= mantissa < 2**31
    error = Fraction(largest, 127) - Fraction(mantissa, 2**shift)
    assert 0 <= error < Fraction(1, 2**shift)


@given(st.lists(I16, min_size=1, max_size=9), I16)
def test_quantizing_by_a_scale_is_a_rounded_quotient(values: list[int], zero_point: int) -> None:
    x = np.array(values, np.int16)
    scale = scale_of(ScaleOf(inputs=("x",), output="s", x_zero_point=zero_point), x)
    op = QuantizeBy(inputs=("x", "s"), output="q", x_zero_point=zero_point)
    r = Fraction(int(scale[0]), 2 ** int(scale[1]))
    for value, q in zip(values, quantize_by(op, x, scale).tolist(), strict=True):
        exact = (value - zero_point) / r
        rounded = math.floor(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
        assert q == min(max(rounded, -127), 127)


def test_the_largest_value_becomes_127_and_zeros_stay() -> None:
    x = np.array([[0, -300, 299, 1]], np.int16)
    scale = scale_of(ScaleOf(inputs=("x",), output="s", x_zero_point=0), x)
    op = QuantizeBy(inputs=("x", "s"), output="q", x_zero_point=0)
    assert quantize_by(op, x, scale).tolist() == [[0, -127, 127, 0]]
    nothing = np.zeros((1, 4), np.int16)
    scale = scale_of(ScaleOf(inputs=("x",), output="s", x_zero_point=0), nothing)
    assert quantize_by(op, nothing, scale).tolist() == [[0, 0, 0, 0]]


@given(st.lists(I16, min_size=8, max_size=8))
def test_a_layer_with_a_dynamic_scale_is_its_real_product(values: list[int]) -> None:
    """Within the rounding of x to 127 steps, of the factor to 30 bits, and of the result."""
    graph = dynamic()
    x = np.array(values, np.int16).reshape(2, 4)
    got = evaluate(graph, {"x": x})["y"].astype(np.float64)
    weight, factor = graph.data("w").astype(np.float64), graph.data("m") * 2.0**-35
    step = max(np.abs(x.astype(np.int64)).max(), 1) / 127
    exact = x.astype(np.float64) @ weight.T * factor
    slack = np.abs(weight).sum(axis=1) * factor * step * 0.5 + 0.5
    assert (np.abs(got - np.clip(exact, -32768, 32767)) <= slack * (1 + 1e-6)).all()


def test_a_small_tensor_keeps_its_precision() -> None:
    """With one scale for all inputs, values of a thousandth of the range would be 0."""
    graph = dynamic()
    x = np.array([[3, -20, 11, 20], [0, 1, 5, -9]], np.int16)
    q = evaluate_all(graph, {"x": x})["q"]
    assert q.tolist() == [[19, -127, 70, 127], [0, 6, 32, -57]]


def test_the_text_of_dynamic_scales_reads_back() -> None:
    graph = dynamic()
    verify(graph, Form.INTEGER)
    assert str(parse(str(graph))) == str(graph)


def fails(old: str, new: str, message: str) -> None:
    text = str(dynamic())
    assert text.count(old) == 1
    with pytest.raises(VerifyError) as caught:
        verify(parse(text.replace(old, new)), Form.INTEGER)
    assert message in str(caught.value)


def test_a_dynamic_tensor_is_read_by_ops_that_know_its_scale() -> None:
    other = "%z = q_minimum(%q, %q) : i8[2,4]\n  return y=%y, z=%z"
    fails("return y=%y", other, "%q has the scale %scale, which only q_dense_by and movements read")


def test_a_dynamic_tensor_is_no_output() -> None:
    fails("return y=%y", "return y=%y, q=%q", "expected no qparams, and no output of the graph")


def test_a_layer_reads_the_scale_of_its_operand() -> None:
    text = str(dynamic()).replace(
        "%q = quantize_by", "%other = scale_of(%x) {x_zero_point=0} : i32[2]\n  %q = quantize_by"
    )
    with pytest.raises(VerifyError, match="%r has not the scale %other"):
        verify(parse(text.replace("%w, %scale", "%w, %other")), Form.INTEGER)


def test_a_scale_comes_from_a_tensor() -> None:
    text = str(dynamic()).replace("(%x: i16", "(%given: i32[2], %x: i16")
    text = text.replace("quantize_by(%x, %scale)", "quantize_by(%x, %given)")
    with pytest.raises(VerifyError, match="%given is not the result of a scale_of"):
        verify(parse(text), Form.INTEGER)


def test_a_dynamic_tensor_has_no_qparams() -> None:
    fails(
        "i8[2,4]\n  %r",
        "i8[2,4] qparams=(0.5, 0, -128, 127)\n  %r",
        "%q has the scale %scale; expected no qparams",
    )


def test_sums_with_dynamic_scales_are_certified() -> None:
    _, log = run_pass(dynamic(), CertifyAccumulators())
    assert "y: " in log.text
    assert "bits of head-room" in log.text


@pytest.mark.parametrize(("shift", "reached"), [(9, 0), (57, 63)])
def test_shifts_that_leave_their_bounds_at_some_scale_are_not_certified(
    shift: int, reached: int
) -> None:
    """The scale's own shift is between 22 (of 32768) and 37 (of 1)."""
    assert (scale_parts(32768)[1], scale_parts(1)[1]) == (22, 37)
    with pytest.raises(PassError, match=rf"and shift {reached}; form wide expects"):
        run_pass(dynamic(shift), CertifyAccumulators())
