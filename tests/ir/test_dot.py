"""The Graphviz text of a graph."""

from __future__ import annotations

import re

import numpy as np

from qcomp.ir import DType, Graph, TensorType, to_dot
from qcomp.ir.ops import Add, Mul


def example(name: str = "x") -> Graph:
    graph = Graph("example")
    x = graph.add_input(name, TensorType(DType.F32, (4,)))
    k = graph.add_constant("k", np.ones(4, np.float32))
    graph.add_op(Mul(inputs=(x, x), output="square"))
    graph.add_op(Add(inputs=("square", k), output="y"))
    graph.outputs["sum"] = "y"
    return graph


def test_ops_are_boxes_and_activations_edges() -> None:
    text = to_dot(example())
    assert text.startswith('digraph "example" {')
    assert text.endswith("}")
    assert r'"%square" [label="mul\n%square"];' in text
    assert '"%square" -> "%y" [label="f32[4]"];' in text
    assert '"%y" -> "return sum" [label="f32[4]"];' in text


def test_constants_are_left_out_and_a_tensor_that_is_read_twice_is_one_edge() -> None:
    text = to_dot(example())
    assert "%k" not in text
    assert text.count('"%x" -> "%square"') == 1


def test_public_names_are_escaped() -> None:
    text = to_dot(example('say "x"\\'))
    assert r'label="say \"x\"\\\nf32[4]"' in text
    for line in text.splitlines():
        unescaped = re.sub(r"\\.", "", line)
        assert unescaped.count('"') % 2 == 0


def test_the_text_is_the_same_each_time() -> None:
    assert to_dot(example()) == to_dot(example().clone())
