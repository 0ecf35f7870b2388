"""The verifier: a good graph, broken by hand in each way; the message shows the op's line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qcomp.errors import VerifyError
from qcomp.ir import Form, Graph, Tensor, parse, verify
from qcomp.ir.ops import Add, Clamp, Softmax
from qcomp.ir.tensor import DType, TensorType

FLOAT = """
graph @float(%x: f32[1,4,4,3]) {
  %w = constant : f32[3,1,1,3]
  %b = constant : f32[3]
  %conv = conv2d(%x, %w, %b) : f32[1,4,4,3]
  %sum = add(%conv, %x) : f32[1,4,4,3]
  %flat = reshape(%sum) {shape=(1, 48)} : f32[1,48]
  %y = softmax(%flat) {axis=1} : f32[1,48]
  return y=%y
}
"""

ANNOTATED = """
graph @annotated(%x: f32[4] range=(0.0, 1.0)) {
  %y = clamp(%x) : f32[4] range=(0.0, 1.0)
  %best = argmax(%y) {axis=0} : i32[1]
  return y=%y, best=%best
}
"""

QDQ = """
graph @qdq(%x: f32[2,3]) {
  %w = constant : f32[4,3]
  %w.scale = constant : f64[4]
  %b = constant : f32[4]
  %b.scale = constant : f64[4]
  %x.q = quantize(%x) {bits=8} : i8[2,3] qparams=(0.5, 0, -128, 127)
  %x.dq = dequantize(%x.q) : f32[2,3]
  %w.fq = fake_quant_constant(%w, %w.scale) {axis=0, bits=8} : f32[4,3]
  %b.fq = fake_quant_constant(%b, %b.scale) {axis=0, bits=8} : f32[4]
  %y = dense(%x.dq, %w.fq, %b.fq) : f32[2,4]
  %y.q = quantize(%y) {bits=8} : i8[2,4] qparams=(0.5, 0, -128, 127)
  %y.dq = dequantize(%y.q) : f32[2,4]
  %best = argmax(%y.dq) {axis=1} : i32[2,1]
  return y=%y.dq, best=%best
}
"""

INTEGER = """
graph @integer(%x: i8[4] qparams=(0.5, 3, -128, 127)) {
  %t = constant : i8[256]
  %y = table(%x, %t) : i8[4] qparams=(0.25, 0, -128, 127)
  %z = reshape(%y) {shape=(2, 2)} : i8[2,2] qparams=(0.25, 0, -128, 127)
  %j = concat(%z, %z) {axis=0} : i8[4,2] qparams=(0.25, 0, -128, 127)
  return j=%j
}
"""

GOOD = {Form.FLOAT: FLOAT, Form.ANNOTATED: ANNOTATED, Form.QDQ: QDQ, Form.INTEGER: INTEGER}


def fails(graph: Graph, form: Form, *messages: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify(graph, form)
    text = str(caught.value)
    assert text.startswith(f"graph @{graph.name} is not in form {form.value}:\n")
    for message in messages:
        assert message in text


def broken(form: Form, pattern: str, replacement: str) -> Graph:
    text, count = re.subn(pattern, replacement, GOOD[form])
    assert count == 1
    return parse(text)


@pytest.mark.parametrize("form", list(Form))
def test_good_graphs_pass(form: Form) -> None:
    verify(parse(GOOD[form]), form)


@pytest.mark.parametrize(("is_in", "form"), [(a, b) for a in Form for b in Form if a is not b])
def test_no_form_is_another(is_in: Form, form: Form) -> None:
    if (is_in, form) == (Form.ANNOTATED, Form.FLOAT):
        verify(parse(ANNOTATED), Form.FLOAT)  # the one inclusion
    else:
        fails(parse(GOOD[is_in]), form)


def test_a_cycle_is_named() -> None:
    graph = parse(FLOAT)
    graph.replace_op(graph.op("conv").with_input(0, "sum"))
    fails(graph, Form.FLOAT, "cycle through", "%conv", "%sum")


def test_outputs_must_exist() -> None:
    graph = parse(FLOAT)
    graph.outputs["ghost"] = "nowhere"
    fails(graph, Form.FLOAT, "ghost: %nowhere does not exist")


def test_inputs_must_exist() -> None:
    graph = parse(FLOAT)
    graph.inputs["ghost"] = "nowhere"
    fails(graph, Form.FLOAT, "ghost: %nowhere does not exist")


def test_a_graph_has_outputs() -> None:
    graph = parse(FLOAT)
    graph.outputs = {}
    fails(graph, Form.FLOAT, "no outputs")


def test_a_tensor_without_origin_is_an_error() -> None:
    graph = parse(FLOAT)
    graph.add_tensor(Tensor("orphan", TensorType(DType.F32, (1,))))
    fails(graph, Form.FLOAT, "%orphan must be exactly one of input, constant, result")


def test_a_result_is_not_also_an_input_or_a_constant() -> None:
    graph = parse(FLOAT)
    graph.inputs["conv"] = "conv"
    fails(graph, Form.FLOAT, "%conv must be exactly one of")
    graph = parse(FLOAT)
    zeros = np.zeros((1, 4, 4, 3), np.float32)
    graph.update_tensor(replace(graph.tensor("conv"), data=zeros))
    fails(graph, Form.FLOAT, "%conv must be exactly one of")


def test_an_activation_that_nothing_makes_is_not_an_input_by_itself() -> None:
    graph = parse(FLOAT)
    graph.inputs = {}
    fails(graph, Form.FLOAT, "%x must be exactly one of")


def test_edges_that_disagree_with_operands_are_found() -> None:
    graph = parse(FLOAT)
    graph._nx.remove_edge("b", "op conv")
    fails(graph, Form.FLOAT, "%conv: edges do not agree with its operands")
    graph = parse(FLOAT)
    graph._nx.add_edge("op sum", "y")
    fails(graph, Form.FLOAT, "%sum: edges do not agree with its result")


def test_an_order_that_is_not_that_of_the_edges_is_found() -> None:
    graph = parse(FLOAT)
    assert [op.id for op in graph.ops()] == ["conv", "sum", "flat", "y"]
    assert graph._order is not None
    graph._order.reverse()
    fails(graph, Form.FLOAT, "the ops are not in the order of their edges")


def put(graph: Graph, op: Add | Clamp | Softmax) -> None:
    """Another payload under the same edges, past every check of the mutators."""
    graph._nx.nodes[f"op {op.id}"]["op"] = op


def test_the_number_of_operands_is_checked() -> None:
    graph = parse(FLOAT)
    put(graph, Clamp(inputs=("conv", "x"), output="sum"))
    fails(graph, Form.FLOAT, "%sum = clamp(%conv, %x)", "expected 1 operands, got 2")


def test_operand_types_are_checked() -> None:
    graph = parse(FLOAT)
    put(graph, Softmax(inputs=("flat",), output="y", axis=2))
    fails(graph, Form.FLOAT, "%y = softmax(%flat) {axis=2} : f32[1,48]", "axis 2 outside rank 2")


def test_result_types_are_checked() -> None:
    graph = parse(FLOAT)
    graph.update_tensor(replace(graph.tensor("y"), type=TensorType(DType.F32, (48,))))
    fails(graph, Form.FLOAT, "%y = softmax(%flat) {axis=1} : f32[48]", "the result f32[1,48]")


def test_weights_must_be_constants() -> None:
    graph = parse(FLOAT)
    w = graph.add_input("w.in", graph.type("w"))
    graph.replace_op(graph.op("conv").with_input(1, w))
    fails(graph, Form.FLOAT, "%conv = conv2d(%x, %w.in, %b)", "operand 1 (%w.in) must be a const")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_constants_must_be_finite(value: float) -> None:
    graph = parse(FLOAT)
    graph.update_tensor(replace(graph.tensor("b"), data=np.full(3, value, np.float32)))
    fails(graph, Form.FLOAT, "constant %b has NaN or infinity")


def test_constants_must_be_read_only() -> None:
    graph = parse(FLOAT)
    graph.update_tensor(replace(graph.tensor("b"), data=np.zeros(3, np.float32)))
    fails(graph, Form.FLOAT, "constant %b is writable")


def test_every_problem_is_reported_at_once() -> None:
    graph = parse(FLOAT)
    graph.update_tensor(replace(graph.tensor("y"), type=TensorType(DType.F32, (48,))))
    graph.update_tensor(replace(graph.tensor("b"), data=np.full(3, np.nan, np.float32)))
    fails(graph, Form.FLOAT, "expected the result", "writable", "NaN")


@pytest.mark.parametrize(
    ("is_in", "form", "message"),
    [
        (Form.QDQ, Form.FLOAT, "quantize does not belong in form float"),
        (Form.QDQ, Form.ANNOTATED, "quantize does not belong in form annotated"),
        (Form.INTEGER, Form.QDQ, "table does not belong in form qdq"),
        (Form.FLOAT, Form.INTEGER, "conv2d does not belong in form integer"),
    ],
)
def test_ops_stand_only_in_their_forms(is_in: Form, form: Form, message: str) -> None:
    fails(parse(GOOD[is_in]), form, message)


@pytest.mark.parametrize("tensor", ["x", "y"])
def test_annotated_tensors_have_ranges(tensor: str) -> None:
    graph = parse(ANNOTATED)
    graph.update_tensor(replace(graph.tensor(tensor), range=None))
    fails(graph, Form.ANNOTATED, f"%{tensor} has no range")


def test_a_quantize_needs_qparams() -> None:
    graph = broken(Form.QDQ, r"i8\[2,3\] qparams=.*", "i8[2,3]")
    fails(graph, Form.QDQ, "%x.q = quantize(%x) {bits=8} : i8[2,3]", "the result has no qparams")


def test_float_ops_read_dequantized_tensors() -> None:
    graph = broken(Form.QDQ, r"dense\(%x.dq", "dense(%x")
    fails(graph, Form.QDQ, "%y = dense(%x, %w.fq, %b.fq)", "%x is not dequantized")


def give_out_a_float_result(graph: Graph) -> None:
    graph.outputs["raw"] = "y"


def read_a_float_result(graph: Graph) -> None:
    graph.outputs["z"] = graph.add_op(Clamp(inputs=("y",), output="z"))


@pytest.mark.parametrize("damage", [give_out_a_float_result, read_a_float_result])
def test_float_results_are_quantized_and_nothing_else(damage: Callable[[Graph], None]) -> None:
    graph = parse(QDQ)
    damage(graph)
    fails(graph, Form.QDQ, "%y = dense(%x.dq, %w.fq, %b.fq)", "%y is not quantized")


def test_integer_tensors_have_qparams() -> None:
    graph = broken(Form.INTEGER, r"%x: i8\[4\] qparams=\([^)]*\)", "%x: i8[4]")
    fails(graph, Form.INTEGER, "%x has no qparams")


def test_no_float_is_left_in_an_integer_graph() -> None:
    graph = parse(INTEGER)
    graph.add_input("f", TensorType(DType.F32, (1,)))
    fails(graph, Form.INTEGER, "%f is f32")


@pytest.mark.parametrize(
    ("id", "line"), [("z", "%z = reshape(%y) {shape=(2, 2)}"), ("j", "%j = concat(%z, %z)")]
)
def test_movements_keep_qparams(id: str, line: str) -> None:
    graph = parse(INTEGER)
    tensor = graph.tensor(id)
    assert tensor.qparams is not None
    graph.update_tensor(replace(tensor, qparams=replace(tensor.qparams, zero_point=1)))
    fails(graph, Form.INTEGER, line, "differ")


ONE_SCALE = [
    "max_pool2d(%x) {kernel=(1, 1)}",
    "q_reduce_extreme(%x) {kind=max, axes=(3,), keepdims=True}",
    "q_minimum(%x, %x)",
    "q_maximum(%x, %k)",
]


@pytest.mark.parametrize("op", ONE_SCALE)
def test_ops_that_copy_integers_keep_qparams(op: str) -> None:
    text = """
    graph @g(%x: i8[1,2,2,1] qparams=(0.5, 0, -128, 127)) {{
      %k = constant : i8[1]
      %y = {op} : i8[1,2,2,1] qparams=({scale}, 0, -128, 127)
      return y=%y
    }}"""
    verify(parse(text.format(op=op, scale=0.5)), Form.INTEGER)
    graph = parse(text.format(op=op, scale=0.25))
    fails(graph, Form.INTEGER, f"%y = {op[:9]}", "differ")


def test_a_softmax_has_the_scale_that_its_meaning_implies() -> None:
    text = """
    graph @g(%x: i8[1,9] qparams=(0.5, 0, -128, 127)) {{
      %t = constant : i32[256]
      %y = q_softmax(%x, %t) {{axis=1}} : i8[1,9] qparams=({qparams}, -128, 127)
      return y=%y
    }}"""
    verify(parse(text.format(qparams="0.00390625, -128")), Form.INTEGER)
    graph = parse(text.format(qparams="0.004, -128"))
    line = "%y = q_softmax(%x, %t) {axis=1, finer=0, bits=8, form=quotient}"
    fails(graph, Form.INTEGER, line, "expected qparams")


# ------------------------------------------------------------------- widths

WIDE = """
graph @wide(%x: i16[4] qparams=({x})) {{
  %y = q_rescale(%x) {{x_zero_point=0, multiplier=5, shift=3, requantize=Requantize(form=wide, \
zero_point=0, qmin=-32768, qmax=32767, bits=16)}} : i16[4] qparams=({y})
  return y=%y
}}"""
Q16 = "0.5, 0, -32768, 32767"


def test_an_i16_graph_is_verified() -> None:
    verify(parse(WIDE.format(x=Q16, y=Q16)), Form.INTEGER)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("0.5, 0, -128, 127", "does not fit i16[4]"),
        ("0.5, 3, -32768, 32767", "is i16 with zero_point 3; expected 0"),
    ],
)
def test_qparams_of_an_i16_are_symmetric_and_of_its_width(bad: str, message: str) -> None:
    fails(parse(WIDE.format(x=bad, y=Q16)), Form.INTEGER, "%x", message)
    fails(parse(WIDE.format(x=Q16, y=bad)), Form.INTEGER, "%y", message)


def test_an_i16_without_qparams_is_named() -> None:
    text = WIDE.format(x=Q16, y=Q16).replace(f" qparams=({Q16})", "", 1)
    fails(parse(text), Form.INTEGER, "%x has no qparams")


def test_a_quantize_gives_the_width_of_its_qparams() -> None:
    graph = broken(Form.QDQ, r"%x.q = quantize\(%x\) {bits=8} : i8\[2,3\]",
                   "%x.q = quantize(%x) {bits=16} : i16[2,3]")  # fmt: skip
    fails(graph, Form.QDQ, "%x.q", "does not fit i16[2,3]")


def test_a_16_bit_softmax_has_its_own_scale() -> None:
    text = """
    graph @g(%x: i16[1,9] qparams=(0.5, 0, -32768, 32767)) {{
      %t = constant : i32[512]
      %y = q_softmax(%x, %t) {{axis=1, bits=16}} : i16[1,9] qparams=({scale}, 0, -32768, 32767)
      return y=%y
    }}"""
    verify(parse(text.format(scale=1 / 32768)), Form.INTEGER)
    fails(parse(text.format(scale=1 / 256)), Form.INTEGER, "%y = q_softmax", "expected qparams")
