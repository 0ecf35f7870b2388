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
