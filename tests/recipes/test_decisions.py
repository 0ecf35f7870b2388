"""Which results of layers have 16 bits because something is decided by them."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.config import QuantizationConfig
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse
from qcomp.passes.base import run_pass
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.recipes.decisions import decided_by, with_fine_decisions

LAYER = """graph @g(%x: f32[1,4]) {
  %w = constant : f32[4,4]
  %b = constant : f32[4]
  %l = dense(%x, %w, %b) : f32[1,4]
"""
SIGN = "%s = unary(%l) {function=sign} : f32[1,4]\n"
READERS = {
    "a sign and a sum": (SIGN + "%t = add(%l, %x) : f32[1,4]\n return s=%s, t=%t\n}", True),
    "a sign alone, whose range is cut": (SIGN + "return s=%s\n}", False),
    "the place of the largest": ("%a = argmax(%l) {axis=1} : i32[1,1]\n return a=%a\n}", True),
    "the same behind a copy": (
        "%r = reshape(%l) {shape=(4,)} : f32[4]\n"
        "%a = argmax(%r) {axis=0} : i32[1]\n return a=%a\n}",
        True,
    ),
    "an output as well": ("%a = argmax(%l) {axis=1} : i32[1,1]\n return a=%a, l=%l\n}", False),
    "a layer as well": (
        SIGN + "%m = dense(%l, %w, %b) : f32[1,4]\n return s=%s, m=%m\n}",
        False,
    ),
    "sums alone": ("%t = add(%l, %x) : f32[1,4]\n return t=%t\n}", False),
}


def network(readers: str) -> Graph:
    return parse(LAYER + readers)


@pytest.mark.parametrize(("readers", "decided"), READERS.values(), ids=READERS)
def test_a_layer_that_decisions_read_beside_sums_has_16_bits(readers: str, decided: bool) -> None:
    graph = network(readers)
    assert decided_by(graph) == (["l"] if decided else [])
    config = with_fine_decisions(graph, QuantizationConfig())
    assert config.overrides == ({"l": {"activation_bits": 16}} if decided else {})


def test_what_the_caller_asks_for_stands() -> None:
    graph = network(READERS["the place of the largest"][0])
    asked = QuantizationConfig(activation_bits=8)
    assert with_fine_decisions(graph, asked) == asked
    own = QuantizationConfig(overrides={"l": {"activation_bits": 8, "range": "mse"}})
    assert with_fine_decisions(graph, own).overrides == own.overrides


@pytest.mark.parametrize("bits", [8, 16])
def test_the_sign_of_16_bits_is_exact(bits: int) -> None:
    """One step from zero is -1 or 1 already."""
    y = "-128, 127" if bits == 8 else "-32768, 32767"
    scale, zero_point = (1 / 127, -3) if bits == 8 else (1 / 32767, 0)
    scale = float(np.float32(scale))
    graph = parse(
        f"""graph @g(%x: f32[65536]) {{
          %x.q = quantize(%x) {{bits=16}} : i16[65536] qparams=(0.5, 0, -32768, 32767)
          %x.dq = dequantize(%x.q) : f32[65536]
          %s = unary(%x.dq) {{function=sign}} : f32[65536]
          %s.q = quantize(%s) {{bits={bits}}} : i{bits}[65536] qparams=({scale}, {zero_point}, {y})
          %s.dq = dequantize(%s.q) : f32[65536]
          return s=%s.dq
        }}"""
    )
    after, _ = run_pass(graph, FuseRequantize())
    x = np.arange(-32768, 32768).astype(np.int16)
    steps = evaluate(after, {"x": x})["s"].astype(np.int64) - zero_point
    assert set(np.unique(np.rint(steps * scale - np.sign(x)))) == {0.0}
    assert steps[32768] == 0
