"""Outputs are divided into parts by data, and by what the ops that make them can reach."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from qcomp.accuracy.makers import makers
from qcomp.accuracy.parts import Part, parts_of
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse
from qcomp.ir.tensor import Array

RANDOM = np.random.default_rng(4)


def graph_of(shape: str, body: str = "", result: str = "x") -> Graph:
    return parse(f"graph @net(%x: f32[{shape}]) {{\n{body}  return y=%{result}\n}}")


def told(graph: Graph, *values: Array) -> list[str]:
    answers: list[Mapping[str, Array]] = [{"y": v.astype(np.float32)} for v in values]
    return [str(part) for part in parts_of(graph, answers)]


def test_channels_of_an_image_are_divided_along_axis_one() -> None:
    values = RANDOM.standard_normal((8, 1, 15, 6, 6))
    values[:, :, 4:] /= 200.0
    assert told(graph_of("1,15,6,6"), *values) == ["y[:, 0:4, :, :]", "y[:, 4:15, :, :]"]


def test_two_quantities_side_by_side_are_divided_along_the_last_axis() -> None:
    values = RANDOM.standard_normal((8, 1, 32, 2)) * [1.0, 200.0]
    assert told(graph_of("1,32,2"), *values) == ["y[:, :, 1]", "y[:, :, 0]"]


def test_one_sample_is_enough_where_a_channel_has_many_values() -> None:
    values = RANDOM.standard_normal((1, 5, 100)) * np.array([300, 300, 1, 1, 1]).reshape(5, 1)
    assert told(graph_of("1,5,100"), values) == ["y[:, 0:2, :]", "y[:, 2:5, :]"]


@pytest.mark.parametrize("shape", ["1,10", "10", "1", ""])
def test_one_sample_of_a_classifier_is_one_part(shape: str) -> None:
    extents = [int(e) for e in shape.split(",") if e]
    assert told(graph_of(shape), RANDOM.standard_normal(extents)) == ["y"]


def test_the_batch_is_no_axis_of_parts() -> None:
    values = RANDOM.standard_normal((8, 4, 3)) * np.array([100.0, 1, 1, 1]).reshape(4, 1)
    assert told(graph_of("4,3"), *values) == ["y"]


SIGMOID = "  %s = unary(%x) {function=sigmoid, alpha=1.0, beta=0.0} : f32[1,4]\n"


def test_scores_of_a_class_that_no_sample_shows_are_with_the_others() -> None:
    values = np.array([[0.9, 0.8, 0.001, 0.0004]]) * np.ones((8, 1, 1))
    assert told(graph_of("1,4"), *values) == ["y[:, 0:2]", "y[:, 2:4]"]
    assert told(graph_of("1,4", SIGMOID, "s"), *values) == ["y"]
    softmax = "  %p = softmax(%x) {axis=1} : f32[1,4]\n"
    assert told(graph_of("1,4", softmax, "p"), *values) == ["y"]


def test_boxes_are_apart_from_scores_of_the_same_range() -> None:
    body = SIGMOID + (
        "  %p = softmax(%x) {axis=1} : f32[1,4]\n"
        "  %c = concat(%x, %s, %p, %s) {axis=1} : f32[1,16]\n"
        "  %r = reshape(%c) {shape=(1, 2, 8)} : f32[1,2,8]\n"
        "  %t = transpose(%r) {permutation=(0, 2, 1)} : f32[1,8,2]\n"
    )
    graph = graph_of("1,4", body, "c")
    assert makers(graph, "c").tolist() == [[0.0] * 4 + [1.0] * 4 + [2.0] * 4 + [1.0] * 4]
    assert makers(graph, "x").tolist() == [[0.0] * 4]
    values = RANDOM.uniform(-1, 1, (8, 1, 16))
    assert told(graph, *values) == ["y[:, 0:4]", "y[:, 4:8 12:16]", "y[:, 8:12]"]
    mixed = graph_of("1,4", body, "t")  # each row has values of both of its halves
    rows = values.reshape(8, 1, 2, 8).transpose(0, 1, 3, 2)
    assert told(mixed, *rows) == ["y[:, 0:4, :]", "y[:, 4:8, :]"]


def test_a_part_takes_its_channels_and_is_printed_as_an_index() -> None:
    part = Part("y", 2, 1, ((0, 2), (5, 6)))
    value = np.arange(8.0).reshape(1, 8)
    assert part.of(value).tolist() == [[0.0, 1.0, 5.0]]
    assert str(part) == "y[:, 0:2 5]"
    many = Part("y", 2, 1, tuple((2 * i, 2 * i + 1) for i in range(9)))
    assert str(many) == "y[:, 0 2 4 6 ...]"
    assert str(Part("y", 2)) == "y"
    assert Part("y", 2).of(value) is value
