"""Parts of a graph: what they read and give, and which sets of ops can't be one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.ir import DType, Form, Graph, TensorType, verify
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.ops import Add, Dense, Function, Unary
from qcomp.ir.region import RegionError, between, extract, with_outputs

X = np.arange(6, dtype=np.float32).reshape(2, 3) / 4


def diamond() -> Graph:
    """x -> a -> b -> d -> e, with a -> c -> d; the weight is read by c and by e."""
    graph = Graph("diamond")
    graph.add_input("image", TensorType(DType.F32, (2, 3)))
    graph.add_input("unread", TensorType(DType.F32, (1,)))
    w = graph.add_constant("w", np.arange(9, dtype=np.float32).reshape(3, 3) / 8)
    v = graph.add_constant("v", np.ones(3, np.float32))
    graph.add_op(Unary(inputs=("image",), output="a", function=Function.ABS))
    graph.add_op(Unary(inputs=("a",), output="b", function=Function.TANH))
    graph.add_op(Dense(inputs=("a", w, v), output="c"))
    graph.add_op(Add(inputs=("b", "c"), output="d"))
    graph.add_op(Dense(inputs=("d", w, v), output="e"))
    graph.outputs = {"scores": "e", "side": "c"}
    return graph


def values(graph: Graph) -> dict[str, np.ndarray]:
    return evaluate_all(graph, {"image": X, "unread": X[0, :1]})


def test_a_region_reads_what_others_give_and_gives_what_others_read() -> None:
    part = extract(diamond(), ["c", "b"])
    assert part.inputs == {"a": "a"}
    assert part.outputs == {"b": "b", "c": "c"}
    assert [op.id for op in part.ops()] == ["b", "c"]
    verify(part, Form.FLOAT)


def test_a_result_that_is_an_output_of_the_graph_is_one_of_the_region() -> None:
    part = extract(diamond(), ["c", "d", "e", "b"])
    assert part.outputs == {"c": "c", "e": "e"}


def test_a_region_computes_what_the_graph_does() -> None:
    every = values(diamond())
    part = extract(diamond(), ["d", "e"])
    got = evaluate(part, {id: every[id] for id in part.inputs})
    assert_array_equal(got["e"], every["e"])


def test_ops_with_a_way_out_and_back_are_no_region() -> None:
    with pytest.raises(RegionError, match=r"not convex: %a -> %b -> %d leaves them and comes back"):
        extract(diamond(), ["a", "c", "d"])


def test_the_way_out_and_back_is_shown_from_its_first_op_to_its_last() -> None:
    with pytest.raises(RegionError, match=r"%a -> %[bc] -> %d -> %e leaves"):
        extract(diamond(), ["a", "e"])


@given(st.sets(st.sampled_from("abcde"), min_size=1))
def test_only_sets_that_a_path_leaves_and_enters_again_are_refused(ops: set[str]) -> None:
    below = {"a": "bcde", "b": "de", "c": "de", "d": "e", "e": ""}
    passed = {m for a in ops for m in below[a] if set(below[m]) & ops}
    if passed <= ops:
        assert {op.id for op in extract(diamond(), ops).ops()} == ops
    else:
        with pytest.raises(RegionError):
            extract(diamond(), ops)


def test_an_op_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(RegionError, match="%v is no result of an op of @diamond"):
        extract(diamond(), ["v"])


def test_what_is_given_is_not_computed_though_it_follows_from_what_is() -> None:
    part = between(diamond(), ["image", "b"], ["d"])
    assert part.inputs == {"image": "image", "b": "b"}
    assert [op.id for op in part.ops()] == ["a", "c", "d"]
    every = values(diamond())
    given = {"image": X, "b": np.zeros_like(every["b"])}
    assert_array_equal(evaluate(part, given)["d"], every["c"])


def test_only_what_is_needed_of_the_given_is_an_input() -> None:
    part = between(diamond(), ["unread", "a", "d"], ["e"])
    assert part.inputs == {"d": "d"}
    assert [t.id for t in part.tensors() if t.is_constant] == ["w", "v"]


def test_an_input_that_is_needed_must_be_given() -> None:
    with pytest.raises(RegionError, match="%image is needed but neither given nor computed"):
        between(diamond(), ["b"], ["d"])


def test_other_outputs_drop_the_ops_behind_them_and_keep_all_inputs() -> None:
    watched = with_outputs(diamond(), ["c", "a"])
    assert watched.inputs == {"image": "image", "unread": "unread"}
    assert watched.outputs == {"c": "c", "a": "a"}
    assert [op.id for op in watched.ops()] == ["a", "c"]
    assert "e" in diamond()


def test_outputs_are_results() -> None:
    with pytest.raises(RegionError, match="%image is no result"):
        with_outputs(diamond(), ["image"])
