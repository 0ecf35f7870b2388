"""Weight scales move a little, and then multipliers are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcomp.config import QuantizationConfig
from qcomp.ir import Graph, parse
from qcomp.ir.graph import constants_of
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.passes.snap_scales import SnapScales

NETWORK = """
graph @network(%x: f32[1,4,4,3] range=(-1.0, 1.0)) {
  %w = constant : f32[4,3,3,3]
  %b = constant : f32[4]
  %conv = conv2d(%x, %w, %b) : f32[1,2,2,4] range=(-5.0, 5.0)
  %fw = constant : f32[6,4]
  %fb = constant : f32[6]
  %y = dense(%conv, %fw, %fb) : f32[1,2,2,6] range=(-4.0, 4.0)
  return y=%y
}
"""


def quantized(**options: Any) -> Graph:
    random = np.random.default_rng(0)
    arrays = {
        id: random.normal(size=a.shape).astype(np.float32) for id, a in constants_of(parse(NETWORK))
    }
    return run_pass(
        parse(NETWORK, arrays),
        InsertQuantize(QuantizationConfig(weight_range="minmax", activation_bits=8, **options)),
    )[0]


def multipliers(graph: Graph, weight: str, x: str, y: str) -> np.ndarray:
    qx, qy = graph.tensor(x).qparams, graph.tensor(y).qparams
    assert qx is not None
    assert qy is not None
    return np.asarray(qx.scale * graph.data(f"{weight}.scale") / qy.scale)


def is_narrow(real: np.ndarray) -> bool:
    """m * 2^-(k + 15) with an m of 10 bits, or of more at k = 0."""
    _, exponent = np.frexp(real)
    m = real * 2.0 ** (np.maximum(-5 - exponent, 0) + 15)
    return bool(np.abs(m - np.rint(m)).max() < 1e-10)


def test_multipliers_become_exact(golden: Any) -> None:
    before = quantized()
    assert not is_narrow(multipliers(before, "w", "x.q", "conv.q"))
    after, log = run_pass(before, SnapScales())
    golden(log.text)
    assert str(after) == str(before)  # only the numbers of the scales change
    assert is_narrow(multipliers(after, "w", "x.q", "conv.q"))
    assert is_narrow(multipliers(after, "fw", "conv.q", "y.q"))


def test_scales_move_by_at_most_a_thousandth_and_the_bias_follows() -> None:
    before = quantized()
    after, _ = run_pass(before, SnapScales())
    moved = after.data("w.scale") / before.data("w.scale") - 1.0
    assert 0 < np.abs(moved).max() <= 2.0**-10
    x = after.tensor("x.q").qparams
    assert x is not None
    np.testing.assert_array_equal(after.data("b.scale"), after.data("w.scale") * x.scale)


def test_one_scale_for_all_channels_moves_too() -> None:
    after, _ = run_pass(quantized(per_channel=False), SnapScales())
    assert after.data("w.scale").shape == (1,)
    assert is_narrow(multipliers(after, "w", "x.q", "conv.q"))


def test_snapping_twice_changes_nothing() -> None:
    once, _ = run_pass(quantized(), SnapScales())
    twice, log = run_pass(once, SnapScales())
    assert str(twice) == str(once)
    for id, array in constants_of(once):
        np.testing.assert_array_equal(twice.data(id), array)
    assert log.text == "did  conv: largest move 0.00e+00\ndid  y: largest move 0.00e+00"


def declined(graph: Graph) -> list[str]:
    log = PassLog()
    SnapScales().run(graph, log)
    return [line for line in log.lines if line.startswith("skip")]


def test_a_scale_that_another_op_reads_is_left_alone() -> None:
    graph = quantized()
    graph.replace_op(graph.op("fb.fq").with_input(1, "fw.scale"))
    assert declined(graph) == ["skip y: %fw.scale is shared with another op"]


def test_a_rounded_weight_that_another_op_reads_is_left_alone() -> None:
    graph = quantized()
    other = graph.op("y").inputs
    graph.add_op(type(graph.op("y"))(inputs=other, output="twin"))
    assert declined(graph) == [
        "skip y: %fw.fq is shared with another op",
        "skip twin: %fw.fq is shared with another op",
    ]


def test_weights_that_are_not_rounded_are_left_alone() -> None:
    graph = quantized()
    graph.replace_op(graph.op("y").with_input(1, "fw"))
    assert declined(graph) == ["skip y: %fw is not quantized"]


@pytest.mark.parametrize("id", ["x", "conv"])
def test_layers_with_16_bits_stay_as_they_are(id: str) -> None:
    before = quantized(overrides={id: {"activation_bits": 16}})
    _, log = run_pass(before, SnapScales())
    assert "skip conv: 16 bits are requantized wide" in log.lines
