"""Masks are observed as the lowest value that counts."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.calibration.collect import collect
from qcomp.calibration.moments import measured_moments
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, Softmax, Unary
from qcomp.ir.ops.elementwise import Function
from qcomp.ir.tensor import Array, DType, TensorType

HIDDEN = np.array([[False, False, True, True], [False, False, False, True]])


def attention(readers: int = 1) -> Graph:
    """softmax(scores + mask), with as many other readers of the sum as there are above one."""
    graph = Graph("attention")
    type = TensorType(DType.F32, (2, 4))
    inputs = graph.add_input("scores", type), graph.add_input("mask", type)
    total = graph.add_op(Add(inputs=inputs, output="sum"))
    graph.outputs["y"] = graph.add_op(Softmax(inputs=(total,), output="y", axis=1))
    if readers > 1:
        halved = Unary(inputs=(total,), output="z", function=Function.AFFINE, alpha=0.5)
        graph.outputs["z"] = graph.add_op(halved)
    return graph


def samples(mask: Array) -> list[dict[str, Array]]:
    scores = np.array([[1.0, 3.0, 2.0, -1.0], [0.0, -2.0, -30.0, 4.0]], np.float32)
    return [{"scores": scores, "mask": mask.astype(np.float32)}]


@pytest.mark.parametrize("value", [-1e4, -65504.0, -1e9, -3.4e38, -np.inf])
def test_nothing_counts_sixteen_below_the_lowest_peak(value: float) -> None:
    """The rows' largest visible scores are 3 and 0."""
    found = collect(attention(), samples(np.where(HIDDEN, value, 0.0)))
    assert found.distributions["sum"].extremes == (-16.0, 3.0)
    assert found.distributions["mask"].extremes == (-20.0, 0.0)
    assert found.distributions["scores"].extremes == (-30.0, 4.0)


def test_a_row_that_is_masked_as_a_whole_asks_for_nothing() -> None:
    mask = np.where(HIDDEN, -1e9, 0.0)
    mask[1] = -1e9
    found = collect(attention(), samples(mask))
    assert found.distributions["sum"].extremes == (-13.0, 3.0)


def test_moments_of_masks_are_finite() -> None:
    moments = measured_moments(attention(), samples(np.where(HIDDEN, -np.inf, 0.0)))
    assert moments["sum"].low.min() == -16.0


def test_scores_without_masks_are_observed_as_they_are() -> None:
    found = collect(attention(), samples(np.zeros((2, 4))))
    assert found.distributions["sum"].extremes == (-30.0, 4.0)


def test_another_reader_needs_low_values_as_they_are() -> None:
    found = collect(attention(readers=2), samples(np.where(HIDDEN, -1e4, 0.0)))
    assert found.distributions["sum"].extremes == (-9998.0 - 3.0, 3.0)
