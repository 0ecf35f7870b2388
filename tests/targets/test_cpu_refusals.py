"""What the CPU has no kernels for is refused with the op's line, before anything is emitted."""

from __future__ import annotations

import pytest

from qcomp.errors import TargetError
from qcomp.ir import Form, Graph, parse, verify
from qcomp.targets.cpu.isa import AVX2
from qcomp.targets.cpu.lower.graph import lower_graph

Q = "qparams=(0.5, 0, -128, 127)"
WEIGHT_ZERO_POINT = f"""
graph @g(%x: i8[2,4] {Q}) {{
  %w = constant : i8[3,4]
  %b = constant : i32[3]
  %m = constant : i32[3]
  %s = constant : i32[3]
  %z = constant : i8[3]
  %y = q_dense(%x, %w, %b, %m, %s, %z) {{x_zero_point=0, requantize=Requantize(form=wide, \
zero_point=0, qmin=-128, qmax=127, bits=8)}} : i8[2,3] {Q}
  return y=%y
}}"""
DYNAMIC = f"""
graph @g(%x: i8[2,4] {Q}) {{
  %w = constant : i8[3,4]
  %m = constant : i32[3]
  %s = constant : i32[3]
  %scale = scale_of(%x) {{x_zero_point=0}} : i32[2]
  %q = quantize_by(%x, %scale) {{x_zero_point=0}} : i8[2,4]
  %y = q_dense_by(%q, %w, %scale, %m, %s) {{requantize=Requantize(form=wide, \
zero_point=0, qmin=-128, qmax=127, bits=8)}} : i8[2,3] {Q}
  return y=%y
}}"""
ISLAND = f"""
graph @g(%x: i8[4] {Q}) {{
  %x.dq = dequantize(%x) : f32[4]
  %e = unary(%x.dq) {{function=exp}} : f32[4] kept
  %r = reshape(%e) {{shape=(2, 2)}} : f32[2,2] kept
  %y = quantize(%r) {{bits=8}} : i8[2,2] {Q}
  return y=%y
}}"""


def refused(graph: Graph, *patterns: str) -> None:
    verify(graph, Form.INTEGER)
    with pytest.raises(TargetError, match=r"^avx2 can't lower:\n") as caught:
        lower_graph(graph, AVX2, "p")
    for pattern in patterns:
        assert pattern in str(caught.value)


def test_weights_with_a_zero_point() -> None:
    reason = "no kernels know weights with a zero point; expected symmetric ones"
    refused(parse(WEIGHT_ZERO_POINT), "%y = q_dense(%x, %w, %b, %m, %s, %z)", reason)


def test_scales_that_are_tensors() -> None:
    reason = "no kernels know a scale that is a tensor"
    refused(parse(DYNAMIC), "%scale = scale_of", "%q = quantize_by", "%y = q_dense_by", reason)


def test_floats_among_the_integers() -> None:
    reason = "the libraries compute with integers only"
    lines = ["%x.dq = dequantize", "%e = unary", "%r = reshape", "%y = quantize"]
    refused(parse(ISLAND), *lines, reason)


def test_integer_operands_that_have_kernels_are_not_refused() -> None:
    text = WEIGHT_ZERO_POINT.replace(", %z)", ")").replace("  %z = constant : i8[3]\n", "")
    assert lower_graph(parse(text), AVX2, "p").calls
