"""What the CPU has no kernels for is refused with the op's line, before anything is emitted."""

from __future__ import annotations

import pytest

from qcomp.errors import TargetError
from qcomp.ir import Form, Graph, parse, verify
from qcomp.targets.cpu.isa import AVX2
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.table import refusal

Q = "qparams=(0.5, 0, -128, 127)"
WEIGHT_ZERO_POINT = f"""
graph @g(%x: {{x}}) {{{{
  %w = constant : i8[3,4]
  %b = constant : i32[3]
  %m = constant : i32[3]
  %s = constant : i32[3]
  %z = constant : i8[3]
  %y = q_dense(%x, %w, %b, %m, %s, %z) {{{{x_zero_point=0, requantize=Requantize(form=wide, \
zero_point=0, qmin=-128, qmax=127, bits=8)}}}} : i8[2,3] {Q}
  return y=%y
}}}}"""
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


def test_weights_with_a_zero_point_beside_16_bits() -> None:
    reason = "no kernels of 16 or 32 bits know weights with a zero point; expected symmetric ones"
    text = WEIGHT_ZERO_POINT.format(x="i16[2,4] qparams=(0.5, 0, -32768, 32767)")
    refused(parse(text), "%y = q_dense(%x, %w, %b, %m, %s, %z)", reason)
    graph = parse(WEIGHT_ZERO_POINT.format(x=f"i8[2,4] {Q}"))
    assert refusal(graph, graph.op("y")) is None


def test_floats_among_the_integers() -> None:
    reason = "the libraries compute with integers only"
    lines = ["%x.dq = dequantize", "%e = unary", "%r = reshape", "%y = quantize"]
    refused(parse(ISLAND), *lines, reason)


SUM = f"""
graph @g(%x: i8[4] {Q}) {{{{
  %y = q_add_rescaled(%x, %x) {{{{a_zero_point=0, b_zero_point=0, left_shift=20, \
a_multiplier=1073741824, a_shift=0, b_multiplier=1073741824, b_shift=0, b_sign=1, \
multiplier=1073741824, shift=-18, requantize={{requantize}}}}}} : i8[4] {Q}
  return y=%y
}}}}"""
MEAN = f"""
graph @g(%x: i8[1,2,2,4] {Q}) {{{{
  %n = constant : i32[5]
  %y = q_average_pool2d(%x, %n) {{{{x_zero_point=0, shift=0, requantize={{requantize}}, \
kernel=(2, 2)}}}} : i8[1,1,1,4] {Q}
  return y=%y
}}}}"""
PRODUCT = f"""
graph @g(%x: i8[4] {Q}) {{{{
  %y = q_mul(%x, %x) {{{{a_zero_point=0, b_zero_point=0, multiplier=1, shift=0, \
requantize={{requantize}}}}}} : i8[4] {Q}
  return y=%y
}}}}"""
RESCALED = f"""
graph @g(%x: i8[4] {Q}) {{{{
  %y = q_rescale(%x) {{{{x_zero_point=0, multiplier=1, shift=0, requantize={{requantize}}}}}} \
: i8[4] {Q}
  return y=%y
}}}}"""
SOFTMAX = f"""
graph @g(%x: i8[1,4] {Q}) {{
  %t = constant : i32[256]
  %y = q_softmax(%x, %t) {{axis=1, form=tflite}} : i8[1,4] qparams=(0.00390625, -128, -128, 127)
  return y=%y
}}"""


def in_form(text: str, form: str) -> Graph:
    requantize = f"Requantize(form={form}, zero_point=0, qmin=-128, qmax=127, bits=8)"
    return parse(text.format(requantize=requantize))


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            in_form(MEAN, "away"),
            "no kernel of q_average_pool2d has the form away; expected narrow, wide, tflite, onnx",
        ),
        (in_form(PRODUCT, "away"), "no kernel of q_mul has the form away; expected narrow, wide"),
        (in_form(RESCALED, "tflite"), "no kernel of q_rescale has the form tflite; expected wide"),
    ],
)
def test_arithmetics_without_kernels(graph: Graph, reason: str) -> None:
    refused(graph, "%y = q_", reason)


@pytest.mark.parametrize(
    "graph",
    [
        *(in_form(t, form) for t in (MEAN, PRODUCT) for form in ("narrow", "wide", "tflite")),
        in_form(MEAN, "quotient"),
        in_form(SUM, "tflite"),
        parse(SOFTMAX),
    ],
)
def test_arithmetics_with_kernels_are_not_refused(graph: Graph) -> None:
    assert refusal(graph, graph.op("y")) is None
