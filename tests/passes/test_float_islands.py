"""Ops that are kept in floats beside integers: where border ops stand, and what they give."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from lowered_graphs import PLAIN, annotated, feed_of
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.errors import VerifyError
from qcomp.ir import DType, Form, Graph, TensorType, parse, verify
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.ops import ArgMax, Clamp, Dense, Function, Softmax, Unary
from qcomp.passes.base import run_pass
from qcomp.passes.certify_accumulators import CertifyAccumulators
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.quant.qparams import dequantize, quantize

RNG = np.random.default_rng(3)


def network() -> Graph:
    """x -> a (dense) -> b (tanh) -> c (dense) -> d (softmax), and the best of d."""
    graph = Graph("islands")
    x = graph.add_input("x", TensorType(DType.F32, (2, 6)))
    w = graph.add_constant("w", RNG.normal(size=(6, 6)).astype(np.float32))
    v = graph.add_constant("v", RNG.normal(size=6).astype(np.float32))
    a = graph.add_op(Dense(inputs=(x, w, v), output="a"))
    b = graph.add_op(Unary(inputs=(a,), output="b", function=Function.TANH))
    c = graph.add_op(Dense(inputs=(b, w, v), output="c"))
    graph.outputs["d"] = graph.add_op(Softmax(inputs=(c,), output="d", axis=1))
    graph.outputs["best"] = graph.add_op(ArgMax(inputs=("d",), output="best", axis=1))
    return graph


def keep(graph: Graph, *ids: str) -> Graph:
    for id in ids:
        graph.update_tensor(replace(graph.tensor(id), kept=True))
    return graph


def forms(*kept: str) -> tuple[Graph, Graph, Graph]:
    """The annotated, the QDQ and the integer graph with some ops kept."""
    graph = keep(annotated(network(), feed_of(network())), *kept)
    qdq, _ = run_pass(graph, InsertQuantize(PLAIN))
    integer, _ = run_pass(qdq, FuseRequantize())
    integer, _ = run_pass(integer, CertifyAccumulators())
    return graph, qdq, integer


def mnemonics(graph: Graph) -> list[str]:
    return [op.mnemonic for op in graph.ops()]


def test_without_kept_ops_all_are_integers() -> None:
    _, _, integer = forms()
    assert integer.is_integer_only
    assert mnemonics(integer) == ["q_dense", "table", "q_dense", "q_softmax", "argmax"]


def test_an_island_stands_between_a_dequantize_and_a_quantize() -> None:
    _, _, integer = forms("b")
    assert not integer.is_integer_only
    assert mnemonics(integer) == [
        "q_dense", "dequantize", "unary", "quantize", "q_dense", "q_softmax", "argmax",
    ]  # fmt: skip


def test_between_kept_ops_there_is_no_border() -> None:
    _, _, integer = forms("b", "c")
    assert mnemonics(integer) == [
        "q_dense", "dequantize", "unary", "dense", "quantize", "q_softmax", "argmax",
    ]  # fmt: skip
    assert integer.is_constant(integer.op("c").inputs[1])


def test_a_kept_op_at_the_end_gives_floats() -> None:
    _, _, integer = forms("d")
    assert integer.type(integer.outputs["d"]).dtype is DType.F32
    assert integer.op("best").inputs == ("d",)
    assert Counter(mnemonics(integer))["dequantize"] == 1


def test_a_kept_op_at_the_beginning_reads_the_float_input() -> None:
    _, _, integer = forms("a")
    assert integer.type("x").dtype is DType.F32
    assert mnemonics(integer) == ["dense", "quantize", "table", "q_dense", "q_softmax", "argmax"]


def test_all_kept_is_the_float_graph() -> None:
    graph, _, integer = forms("a", "b", "c", "d")
    feed = feed_of(network(), 1)
    assert_array_equal(evaluate(integer, feed)["d"], evaluate(graph, feed)["d"])
    assert mnemonics(integer) == ["dense", "unary", "dense", "softmax", "argmax"]


@pytest.mark.parametrize("kept", [("b",), ("b", "c"), ("c",), ("b", "d")])
def test_the_mixture_computes_what_the_rounded_floats_do(kept: tuple[str, ...]) -> None:
    _, qdq, integer = forms(*kept)
    feed = feed_of(network(), 1)
    qparams = integer.tensor("x").qparams
    assert qparams is not None
    expected = evaluate(qdq, feed)["d"]
    values = evaluate_all(integer, {"x": quantize(feed["x"], qparams)})
    got = values[integer.outputs["d"]]
    if (result := integer.tensor(integer.outputs["d"]).qparams) is not None:
        got = dequantize(got, result)
    assert_allclose(got, expected, atol=2.1 / 256)


def test_an_island_is_computed_exactly_from_the_integers_before_it() -> None:
    _, _, integer = forms("b")
    feed = feed_of(network(), 1)
    qparams = integer.tensor("x").qparams
    assert qparams is not None
    values = evaluate_all(integer, {"x": quantize(feed["x"], qparams)})
    before = integer.op(integer.op("b").inputs[0]).inputs[0]
    scale = integer.tensor(before).qparams
    assert scale is not None
    assert_allclose(values["b"], np.tanh(dequantize(values[before], scale)), rtol=1e-6)


@pytest.mark.parametrize("kept", [(), ("b",), ("b", "c"), ("a", "d")])
def test_the_text_says_what_is_kept(kept: tuple[str, ...]) -> None:
    for graph, form in zip(forms(*kept), (Form.ANNOTATED, Form.QDQ, Form.INTEGER), strict=True):
        again = parse(str(graph))
        assert str(again) == str(graph)
        assert {t.id for t in again.tensors() if t.kept} == set(kept)
        verify(again, form)


def test_a_float_op_that_is_not_kept_is_found_in_an_integer_graph() -> None:
    _, _, integer = forms("b")
    integer.update_tensor(replace(integer.tensor("b"), kept=False))
    with pytest.raises(VerifyError, match="unary does not belong in form integer"):
        verify(integer, Form.INTEGER)


def test_a_quantized_op_does_not_read_a_kept_one_as_it_is() -> None:
    _, qdq, _ = forms("b")
    qdq.replace_op(qdq.op("c").with_input(0, "b"))
    with pytest.raises(VerifyError, match="%b is not dequantized"):
        verify(qdq, Form.QDQ)


def test_a_kept_op_does_not_read_a_quantized_one_before_it_is_rounded() -> None:
    _, qdq, _ = forms("b")
    qdq.replace_op(qdq.op("b").with_input(0, "a"))
    with pytest.raises(VerifyError, match="%a is not quantized"):
        verify(qdq, Form.QDQ)


def test_both_sides_of_an_edge_have_one_type() -> None:
    _, _, integer = forms("b")
    integer._nx.nodes["op b"]["op"] = integer.op("b").with_input(0, "a.q")
    with pytest.raises(VerifyError, match=r"edges do not agree"):
        verify(integer, Form.INTEGER)
    graph = parse("graph @g(%x: f32[4]) {\n  %y = clamp(%x) : f32[4] kept\n  return y=%y\n}")
    verify(graph, Form.INTEGER)
    graph.update_tensor(replace(graph.tensor("x"), type=TensorType(DType.I8, (4,))))
    with pytest.raises(VerifyError, match=r"expected f32, got i8\[4\]"):
        verify(graph, Form.INTEGER)


@pytest.mark.parametrize("id", ["x", "b.q", "b.dq"])
def test_only_what_a_float_op_computes_is_kept(id: str) -> None:
    _, qdq, _ = forms("a")
    with pytest.raises(VerifyError, match=f"%{id} is kept; expected an f32 result"):
        verify(keep(qdq, id), Form.QDQ)


def test_a_movement_of_floats_is_kept_or_found() -> None:
    text = """
    graph @g(%x: f32[4]) {{
      %y = reshape(%x) {{shape=(2, 2)}} : f32[2,2]{}
      return y=%y
    }}"""
    verify(parse(text.format(" kept")), Form.INTEGER)
    with pytest.raises(VerifyError, match="%y is f32"):
        verify(parse(text.format("")), Form.INTEGER)


def test_a_kept_copy_does_not_tie_the_scales_of_its_sides() -> None:
    graph = Graph("copy")
    x = graph.add_input("x", TensorType(DType.F32, (4,)))
    graph.add_op(Clamp(inputs=(x,), output="a"))
    graph.add_op(Unary(inputs=("a",), output="b", function=Function.EXP))
    graph.outputs["y"] = graph.add_op(Softmax(inputs=("b",), output="y", axis=0))
    feed = feed_of(graph)
    kept, _ = run_pass(keep(annotated(graph, feed), "y"), InsertQuantize(PLAIN))
    assert "y.q" not in kept
    assert kept.outputs["y"] == "y"
