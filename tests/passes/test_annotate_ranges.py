"""Ranges on every activation, tightened by what ops guarantee."""

from __future__ import annotations

import math

import pytest

from qcomp.errors import PassError
from qcomp.ir import Graph, parse
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import run_pass

GRAPH = """
graph @g(%x: f32[1,4]) {
  %w = constant : f32[4,4]
  %b = constant : f32[4]
  %h = dense(%x, %w, %b) {clamp=ClampRange(low=0.0, high=6.0)} : f32[1,4]
  %s = unary(%h) {function=sigmoid, alpha=1.0, beta=0.0} : f32[1,4]
  %p = softmax(%s) {axis=1} : f32[1,4]
  %i = argmax(%p) {axis=1, keepdims=True, last=False} : i32[1,1]
  return p=%p, i=%i
}
"""
RANGES = {"x": (-2.5, 3.5), "h": (-0.5, 9.0), "s": (0.2, 0.9), "p": (-0.25, 1.5)}


@pytest.fixture
def graph() -> Graph:
    return parse(GRAPH)


def test_every_float_activation_gets_its_range_and_nothing_else_does(graph: Graph) -> None:
    after, _ = run_pass(graph, AnnotateRanges(RANGES))
    annotated = {t.id for t in after.tensors() if t.range is not None}
    assert annotated == {"x", "h", "s", "p"}
    assert after.tensor("x").range == (-2.5, 3.5)
    assert all(t.range is None for t in graph.tensors())


def test_clamps_and_bounded_functions_tighten_but_never_widen(graph: Graph) -> None:
    after, log = run_pass(graph, AnnotateRanges(RANGES))
    assert after.tensor("h").range == (0.0, 6.0)
    assert after.tensor("s").range == (0.2, 0.9)
    assert after.tensor("p").range == (0.0, 1.0)
    assert "%h: (0, 6), tightened from (-0.5, 9)" in log.text
    assert "did  %s: (0.2, 0.9)\n" in log.text


def test_a_range_that_misses_the_guarantee_ends_on_its_border(graph: Graph) -> None:
    after, _ = run_pass(graph, AnnotateRanges({**RANGES, "h": (-3.0, -2.0)}))
    assert after.tensor("h").range == (0.0, 0.0)


def test_running_twice_changes_nothing(graph: Graph) -> None:
    once, _ = run_pass(graph, AnnotateRanges(RANGES))
    twice, _ = run_pass(once, AnnotateRanges(RANGES))
    assert str(once) == str(twice)


def test_all_missing_and_broken_ranges_are_named_at_once(graph: Graph) -> None:
    broken = {"x": (0.0, math.inf), "h": (1.0, -1.0), "s": (math.nan, 0.0)}
    with pytest.raises(PassError) as error:
        run_pass(graph, AnnotateRanges(broken))
    message = str(error.value)
    assert "%p: no range; expected one for every f32 input and result" in message
    assert "%x: range (0.0, inf); expected finite numbers" in message
    assert "%h: range (1.0, -1.0); expected finite numbers, the lower one first" in message
    assert "%s: range (nan, 0.0)" in message
