"""Sessions work on the arrays of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.execute import session
from qcomp.execute.session import FloatSession
from qcomp.ir.parse import parse

TEXT = """graph @net(%x: f32[1,128]) {
  %w = constant : f32[64,128]
  %b = constant : f32[64]
  %y = dense(%x, %w, %b) : f32[1,64]
  return y=%y
}"""

SPATIAL = """graph @net(%x: f32[2,5,4,3]) {
  %w = constant : f32[6,3,3,3]
  %b = constant : f32[6]
  %t = add(%x, %x) : f32[2,5,4,3]
  %y = conv2d(%t, %w, %b) {stride=(1, 1), padding=(1, 1, 1, 1), groups=1} : f32[2,5,4,6]
  return y=%y, t=%t
}"""


@pytest.mark.parametrize("first", ["x", "y", "t", "xty"])
def test_channels_first_are_only_another_order_in_memory(first: str) -> None:
    random = np.random.default_rng(0)
    shapes = {"w": (6, 3, 3, 3), "b": (6,)}
    graph = parse(SPATIAL, {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()})
    x = random.normal(size=(2, 5, 4, 3)).astype(np.float32)
    expected = FloatSession(graph).run({"x": x})
    found = FloatSession(graph, channels_first=set(first)).run({"x": x})
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name])
        turned = value.transpose(0, 3, 1, 2) if name in first else value
        assert turned.flags.c_contiguous


def test_large_weights_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to an array after a session was made shows that it reads the array."""
    monkeypatch.setattr(session, "_PACKED", 0)
    weight = np.ones((64, 128), np.float32)
    graph = parse(TEXT, {"w": weight, "b": np.zeros(64, np.float32)})
    made = FloatSession(graph)
    x = {"x": np.ones((1, 128), np.float32)}
    assert made.run(x)["y"].max() == 128.0
    array = graph.data("w")
    array.flags.writeable = True
    array[...] = 2.0
    assert made.run(x)["y"].min() == 256.0
