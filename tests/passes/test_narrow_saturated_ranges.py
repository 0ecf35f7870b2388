"""Ranges shrink only where every reader is flat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcomp.config import QuantizationConfig
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, Binary, Function, Mul, Op, Slice, Softmax, Transpose, Unary
from qcomp.ir.tensor import Array, DType, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.narrow_saturated_ranges import NarrowSaturatedRanges

RANGES = {
    Function.SILU: (-0.2785, 6.0),
    Function.SIGMOID: (0.0, 1.0),
    Function.TANH: (-1.0, 1.0),
    Function.ABS: (0.0, 70.0),
}


NARROW = NarrowSaturatedRanges(QuantizationConfig(activation_bits=8))


def graph_with(*functions: Function, x: tuple[float, float] = (-70.0, 6.0)) -> Graph:
    graph = Graph("g")
    id = graph.add_input("in", TensorType(DType.F32, (1, 8)))
    graph.update_tensor(replace(graph.tensor(id), range=x))
    for i, function in enumerate(functions):
        y = graph.add_op(Unary(inputs=(id,), output=f"y{i}", function=function))
        graph.update_tensor(replace(graph.tensor(y), range=RANGES[function]))
        graph.outputs[f"y{i}"] = y
    return graph


def test_the_flat_end_of_silu_is_cut_by_half_a_step_at_most() -> None:
    after, log = run_pass(graph_with(Function.SILU), NARROW)
    low, high = after.tensor("in").range or (0.0, 0.0)
    assert high == 6.0
    assert -10.0 < low < -3.0
    step = (6.0 + 0.2785) / 255
    cut = np.linspace(-70.0, low, 1000)
    silu = lambda x: x / (1 + np.exp(-x))  # noqa: E731
    assert np.abs(silu(cut) - silu(low)).max() <= step / 2 * 1.01
    assert "in: [-70, 6]" in log.text


def test_two_readers_get_the_union_of_their_needs() -> None:
    silu, _ = run_pass(graph_with(Function.SILU), NARROW)
    both, _ = run_pass(graph_with(Function.SILU, Function.TANH), NARROW)
    assert both.tensor("in").range == silu.tensor("in").range


@pytest.mark.parametrize("functions", [(Function.ABS,), (Function.SIGMOID, Function.ABS)])
def test_a_reader_that_is_not_flat_keeps_the_range(functions: tuple[Function, ...]) -> None:
    after, log = run_pass(graph_with(*functions), NARROW)
    assert after.tensor("in").range == (-70.0, 6.0)
    assert log.text == "" or "skip in: %y1 (unary) reads all of it" in log.text


@pytest.mark.parametrize("kind", [Add, Mul])
def test_a_reader_that_is_linear_keeps_the_range(kind: type[Binary]) -> None:
    graph = graph_with(Function.SILU)
    total = graph.add_op(kind(inputs=("in", "y0"), output="both"))
    graph.update_tensor(replace(graph.tensor(total), range=(-70.0, 36.0)))
    graph.outputs["both"] = total
    after, log = run_pass(graph, NARROW)
    assert after.tensor("in").range == (-70.0, 6.0)
    assert f"%both ({kind.mnemonic}) reads all of it" in log.text


BEHIND = {
    "a copy": (Transpose, {"permutation": (1, 0)}, (-70.0, 6.0)),
    "a part": (Slice, {"starts": (0, 0), "sizes": (1, 4), "steps": (1, 1)}, (-70.0, 6.0)),
    "a number on top": (Unary, {"function": Function.AFFINE, "beta": 1.0}, (-69.0, 7.0)),
}


@pytest.mark.parametrize(("op", "attributes", "range"), BEHIND.values(), ids=BEHIND.keys())
def test_what_saturates_behind_narrows_what_comes_before(
    op: type[Op], attributes: dict[str, Any], range: tuple[float, float]
) -> None:
    graph = graph_with()
    moved = graph.add_op(op(inputs=("in",), output="moved", **attributes))
    graph.update_tensor(replace(graph.tensor(moved), range=range))
    y = graph.add_op(Unary(inputs=(moved,), output="y", function=Function.SIGMOID))
    graph.update_tensor(replace(graph.tensor(y), range=(0.0, 1.0)))
    graph.outputs["y"] = y
    after, _ = run_pass(graph, NARROW)
    low, high = after.tensor("in").range or (0.0, 0.0)
    assert -8.0 < low < -5.0
    assert high > 4.8


def test_a_mask_is_clipped_to_where_its_sum_saturates() -> None:
    mask = np.triu(np.full((4, 4), -1e9, np.float32), 1)
    after, _ = run_pass(masked_scores(Add, mask), NARROW)
    (sum,) = (op for op in after.ops() if isinstance(op, Add))
    assert_array_equal(after.data(sum.b), np.maximum(mask, np.float32(-26.0)))


def test_a_mask_that_is_an_input_needs_no_more_than_its_sum() -> None:
    after, _ = run_pass(masked_scores(Add, None), NARROW)
    assert after.tensor("mask").range == (-26.0, 0.0)
    assert after.tensor("x").range == (-5.0, 6.0)


def masked_scores(kind: type[Binary], mask: Array | None) -> Graph:
    """softmax(x + mask) where the sum counts from -20 on."""
    type = TensorType(DType.F32, (4, 4))
    graph = Graph("g")
    ranged = {"x": (-5.0, 6.0), "sum": (-20.0, 6.0), "y": (0.0, 1.0)}
    graph.add_input("x", type)
    if mask is None:
        graph.add_input("mask", type)
        ranged["mask"] = (-1e9, 0.0)
    else:
        graph.add_constant("mask", mask)
    graph.add_op(kind(inputs=("x", "mask"), output="sum"))
    graph.outputs["y"] = graph.add_op(Softmax(inputs=("sum",), output="y", axis=1))
    for id, range in ranged.items():
        graph.update_tensor(replace(graph.tensor(id), range=range))
    return graph


def test_a_second_run_changes_the_range_by_no_more_than_the_grid() -> None:
    once, _ = run_pass(graph_with(Function.TANH), NARROW)
    twice, _ = run_pass(once, NARROW)
    first, second = once.tensor("in").range, twice.tensor("in").range
    assert first is not None
    assert second is not None
    assert abs(second[0] - first[0]) < 1.0


def test_with_16_bits_on_both_sides_half_a_step_is_less() -> None:
    low = {}
    for widths in ((), ("in",), ("y0",), ("in", "y0")):
        config = QuantizationConfig(
            activation_bits=8, overrides={id: {"activation_bits": 16} for id in widths}
        )
        after, _ = run_pass(graph_with(Function.SILU), NarrowSaturatedRanges(config))
        found = after.tensor("in").range
        assert found is not None
        low[widths] = found[0]
    assert low[()] == low["in",] == low["y0",]
    assert -20.0 < low["in", "y0"] < low[()] - 3.0


@pytest.mark.parametrize(("share", "is_cut"), [(0.01, False), (0.03, True), (0.2, True)])
def test_a_flat_part_of_a_fiftieth_of_the_range_is_worth_a_cut(share: float, is_cut: bool) -> None:
    """A hard sigmoid is flat below -2.5 and, to half a step of its result, up to -2.49."""
    x = (2.5 - 5.0 / (1.0 - share), 2.5)
    graph = graph_with(x=x)
    flat = Unary(inputs=("in",), output="y", function=Function.HARD_SIGMOID, alpha=0.2, beta=0.5)
    graph.outputs["y"] = graph.add_op(flat)
    graph.update_tensor(replace(graph.tensor("y"), range=(0.0, 1.0)))
    after, log = run_pass(graph, NARROW)
    assert (after.tensor("in").range != x) == is_cut, log.text
