"""The graph: its few mutators, its orders, and what it refuses."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from qcomp.ir import DType, Form, Graph, Tensor, TensorType, constant, verify
from qcomp.ir.graph import constants_of, sanitized
from qcomp.ir.ops import RELU, Add, Clamp, Concat, Conv2d, Mul, Reshape

VECTOR = TensorType(DType.F32, (4,))


def relu(x: str, y: str) -> Clamp:
    return Clamp(inputs=(x,), output=y, clamp=RELU)


def diamond() -> Graph:
    """x -> a -> (b, c) -> y."""
    graph = Graph("diamond")
    graph.add_input("x", VECTOR)
    graph.add_op(relu("x", "a"))
    graph.add_op(relu("a", "b"))
    graph.add_op(relu("a", "c"))
    graph.add_op(Add(inputs=("b", "c"), output="y"))
    graph.outputs["y"] = "y"
    return graph


def ids(graph: Graph) -> list[str]:
    return [op.id for op in graph.ops()]


def test_a_result_has_the_inferred_type() -> None:
    graph = Graph("g")
    graph.add_input("x", TensorType(DType.F32, (1, 9, 9, 3)))
    w = graph.add_constant("w", np.zeros((8, 3, 3, 3), np.float32))
    b = graph.add_constant("b", np.zeros(8, np.float32))
    y = graph.add_op(Conv2d(inputs=("x", w, b), output="y", stride=(2, 2)))
    assert str(graph.type(y)) == "f32[1,4,4,8]"


def test_producers_and_consumers_are_derived_from_the_operands() -> None:
    graph = diamond()
    assert graph.producer("x") is None
    assert graph.producer("a") == graph.op("a")
    assert [op.id for op in graph.consumers("a")] == ["b", "c"]
    assert graph.consumers("y") == []


def test_a_sole_consumer_is_the_only_reader_of_a_tensor_that_is_no_output() -> None:
    graph = diamond()
    assert graph.sole_consumer("b") == graph.op("y")
    assert graph.sole_consumer("a") is None
    graph.outputs["also"] = "b"
    assert graph.sole_consumer("b") is None


def test_an_op_that_reads_a_tensor_twice_is_one_consumer_with_two_operands() -> None:
    graph = Graph("square")
    graph.add_input("x", VECTOR)
    graph.add_op(Mul(inputs=("x", "x"), output="y"))
    graph.outputs["y"] = "y"
    assert [op.inputs for op in graph.consumers("x")] == [("x", "x")]
    assert graph.activations(graph.op("y")) == ["x", "x"]
    verify(graph, Form.FLOAT)
    other = graph.add_input("z", VECTOR)
    graph.replace_uses("x", other)
    assert graph.op("y").inputs == ("z", "z")
    assert graph.consumers("x") == []
    verify(graph, Form.FLOAT)


def test_one_of_two_equal_operands_can_change_alone() -> None:
    graph = Graph("g")
    graph.add_input("x", VECTOR)
    z = graph.add_input("z", VECTOR)
    graph.add_op(Mul(inputs=("x", "x"), output="y"))
    graph.outputs["y"] = "y"
    graph.replace_op(graph.op("y").with_input(1, z))
    assert graph.op("y").inputs == ("x", "z")
    assert [op.id for op in graph.consumers("x")] == ["y"]
    verify(graph, Form.FLOAT)


def test_ops_are_sorted_topologically_and_then_by_creation() -> None:
    graph = Graph("late")
    graph.add_input("x", VECTOR)
    for name in ("z", "m", "a"):
        graph.add_op(relu("x", name))
    assert ids(graph) == ["z", "m", "a"]
    graph.replace_op(relu("a", "z"))
    assert ids(graph) == ["m", "a", "z"]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_follows_each_change(seed: int) -> None:
    """It is networkx's lexicographical sort by creation; what was asked before does not stay."""
    random = np.random.default_rng(seed)
    graph = Graph("changing")
    graph.add_input("x", VECTOR)
    expected: list[str] = []
    for i in range(30):
        earlier = ["x", *expected]
        a, b = random.choice(earlier, 2)
        graph.add_op(Add(inputs=(str(a), str(b)), output=f"n{i}"))
        moved = str(random.choice(ids(graph)))
        before = nx.ancestors(graph.view(), moved) & set(earlier)
        if before:
            graph.replace_op(relu(str(random.choice(sorted(before))), moved))
        if random.random() < 0.3:
            graph.erase(next(id for id in reversed(ids(graph)) if not graph.consumers(id)))
        expected = by_networkx(graph)
        assert ids(graph) == expected
    saved = graph.clone()
    graph.outputs["y"] = expected[3]
    graph.sweep()
    assert ids(graph) == by_networkx(graph) != expected
    verify(graph, Form.FLOAT)
    graph.restore(saved)
    assert ids(graph) == expected


def by_networkx(graph: Graph) -> list[str]:
    nodes = graph.view().nodes
    order = nx.lexicographical_topological_sort(graph.view(), key=lambda n: nodes[n]["serial"])
    return [nodes[n]["op"].id for n in order if "op" in nodes[n]]


def test_a_replaced_op_keeps_its_place() -> None:
    graph = diamond()
    graph.replace_op(Clamp(inputs=("a",), output="b"))
    assert ids(graph) == ["a", "b", "c", "y"]
    assert [op.id for op in graph.consumers("a")] == ["b", "c"]


def test_replacing_an_op_infers_its_type_again_and_can_change_the_record() -> None:
    graph = diamond()
    graph.add_op(Reshape(inputs=("y",), output="r", shape=(2, 2)))
    graph.replace_op(Reshape(inputs=("y",), output="r", shape=(4, 1)), range=(0.0, 1.0))
    assert graph.type("r").shape == (4, 1)
    assert graph.tensor("r").range == (0.0, 1.0)


def test_tensors_come_in_order_of_creation() -> None:
    graph = diamond()
    graph.add_constant("k", np.zeros(1, np.float32))
    assert [t.id for t in graph.tensors()] == ["x", "a", "b", "c", "y", "k"]


def test_replace_uses_rewires_readers_and_outputs_but_not_the_maker_of_the_new_tensor() -> None:
    graph = diamond()
    graph.outputs["inner"] = "a"
    new = graph.add_op(relu("a", "new"))
    graph.replace_uses("a", new)
    assert graph.op("new").inputs == ("a",)
    assert [op.id for op in graph.consumers("new")] == ["b", "c"]
    assert graph.outputs == {"y": "y", "inner": "new"}
    verify(graph, Form.FLOAT)


def test_sweep_removes_what_no_output_needs_and_keeps_inputs() -> None:
    graph = diamond()
    graph.add_input("unread", VECTOR)
    graph.add_constant("dead", np.zeros(3, np.float32))
    used = graph.add_constant("used", np.zeros(4, np.float32))
    graph.add_op(Add(inputs=("x", used), output="alive"))
    graph.add_op(relu("c", "gone"))
    graph.outputs = {"b": "b", "alive": "alive"}
    graph.sweep()
    assert ids(graph) == ["a", "b", "alive"]
    assert [t.id for t in graph.tensors()] == ["x", "a", "b", "unread", "used", "alive"]


def test_a_clone_shares_payloads_and_arrays_and_nothing_else() -> None:
    graph = diamond()
    weight = graph.add_constant("k", np.ones(4, np.float32))
    graph.replace_op(Add(inputs=("b", weight), output="y"))
    before = str(graph)
    clone = graph.clone()
    assert str(clone) == before
    assert clone.data(weight) is graph.data(weight)
    assert clone.op("y") is graph.op("y")

    clone.outputs["more"] = clone.add_op(relu("y", "more"))
    clone.replace_op(Clamp(inputs=("x",), output="a"))
    clone.update_tensor(Tensor("x", VECTOR, range=(0.0, 1.0)))
    clone.add_input("z", VECTOR)
    clone.sweep()
    assert str(graph) == before
    assert "c" in graph
    assert "c" not in clone


def test_a_clone_goes_on_counting_where_the_original_stands() -> None:
    graph, clone = diamond(), diamond().clone()
    for g in (graph, clone):
        g.outputs["n"] = g.add_op(relu("x", "n"))
    assert str(graph) == str(clone)


def test_erase_removes_a_tensor_and_its_producer() -> None:
    graph = diamond()
    graph.add_op(relu("y", "extra"))
    graph.erase("extra")
    assert "extra" not in graph
    assert graph.consumers("y") == []


@pytest.mark.parametrize("id", ["x", "a", "y"])
def test_what_is_in_use_can_not_be_erased(id: str) -> None:
    with pytest.raises(ValueError, match=f"%{id} is still in use"):
        diamond().erase(id)


def test_a_fresh_id_is_a_readable_name_that_is_not_taken() -> None:
    graph = diamond()
    assert graph.fresh_id("new") == "new"
    assert graph.fresh_id("a") == "a.1"
    graph.add_op(relu("x", "a.1"))
    assert graph.fresh_id("a") == "a.2"
    assert graph.fresh_id("my tensor:0") == "my_tensor_0"
    assert graph.fresh_id("") == "_"


def test_sanitized_names_consist_of_what_the_text_format_prints() -> None:
    assert sanitized("layer/conv-1.weight_2") == "layer/conv-1.weight_2"
    assert sanitized("a,b (c)=%d\né") == "a_b__c___d__"


def test_a_constant_is_read_only() -> None:
    graph = Graph("g")
    k = graph.add_constant("k", np.ones(3, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        graph.data(k)[0] = 2.0
    assert graph.is_constant(k)
    assert [(id, a.tolist()) for id, a in constants_of(graph)] == [("k", [1.0, 1.0, 1.0])]


def test_a_scalar_constant_stays_a_scalar() -> None:
    assert str(constant("k", np.array(1.0, np.float32)).type) == "f32[]"


def test_an_array_of_another_element_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="no element type for numpy dtype complex64"):
        constant("k", np.zeros(2, np.complex64))


def test_the_view_can_not_be_changed() -> None:
    graph = diamond()
    with pytest.raises(nx.NetworkXError, match="Frozen"):
        graph.view().remove_node("x")
    assert "x" in graph


def test_names_can_not_be_given_twice() -> None:
    graph = diamond()
    with pytest.raises(ValueError, match="tensor %a exists already"):
        graph.add_op(relu("x", "a"))
    with pytest.raises(ValueError, match="tensor %x exists already"):
        graph.add_tensor(Tensor("x", VECTOR))
    assert ids(graph) == ["a", "b", "c", "y"]


@pytest.mark.parametrize("id", ["", "a b", "op a", "a,b", "%a", "a:0"])
def test_an_id_that_the_text_format_can_not_print_is_refused(id: str) -> None:
    with pytest.raises(ValueError, match="is not an id"):
        Graph("g").add_tensor(Tensor(id, VECTOR))


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (relu("nowhere", "n"), "%n reads %nowhere, which does not exist"),
        (Add(inputs=("x",), output="n"), "%n: expected 2 operands, got 1"),
        (Clamp(inputs=("x", "x"), output="n"), "%n: expected 1 operands, got 2"),
        (Concat(inputs=(), output="n", axis=0), "%n: expected at least 1 operands, got 0"),
        (Reshape(inputs=("x",), output="n", shape=(3,)), "can't become"),
    ],
)
def test_an_op_whose_operands_misfit_is_refused_and_leaves_no_trace(
    op: Clamp | Add | Concat | Reshape, message: str
) -> None:
    graph = diamond()
    before = str(graph)
    with pytest.raises(ValueError, match=message):
        graph.add_op(op)
    assert "n" not in graph
    assert str(graph) == before


def test_a_replacement_that_misfits_leaves_the_graph_as_it_was() -> None:
    graph = diamond()
    before = str(graph)
    with pytest.raises(ValueError, match="which does not exist"):
        graph.replace_op(relu("nowhere", "b"))
    with pytest.raises(ValueError, match="can't become"):
        graph.replace_op(Reshape(inputs=("a",), output="b", shape=(5,)))
    assert str(graph) == before
    verify(graph, Form.FLOAT)


def test_unknown_tensors_are_key_errors_and_activations_have_no_data() -> None:
    graph = diamond()
    with pytest.raises(KeyError):
        graph.tensor("nowhere")
    with pytest.raises(KeyError):
        graph.op("x")
    with pytest.raises(KeyError, match="%x is not a constant"):
        graph.data("x")
