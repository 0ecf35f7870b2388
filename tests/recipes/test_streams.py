"""Which activations of transformers have 16 bits where nobody asked for 8."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse
from qcomp.passes.lib.same_scale import activation_bits
from qcomp.quantizer import Quantizer
from qcomp.recipes.choose import decide
from qcomp.recipes.streams import wide_streams

NORM = "axes=(2,), centered=True, epsilon=1e-5"
HEAD = """graph @g(%x: f32[1,3,4]) {
  %gamma = constant : f32[4]
  %w = constant : f32[4,4]
  %w3 = constant : f32[3,4]
  %b = constant : f32[4]
  %e = dense(%x, %w, %b) : f32[1,3,4]
"""
BEFORE = f"""
  %n = normalize(%e, %gamma, %b) {{{NORM}}} : f32[1,3,4]
  %u = dense(%n, %w, %b) : f32[1,3,4]
  %g = unary(%u) {{function=gelu}} : f32[1,3,4]
  %d = dense(%g, %w, %b) : f32[1,3,4]
  %s = add(%e, %d) : f32[1,3,4]
  %y = normalize(%s, %gamma, %b) {{{NORM}}} : f32[1,3,4]
  return y=%y
}}"""
BEHIND = f"""
  %n = normalize(%e, %gamma, %b) {{{NORM}}} : f32[1,3,4]
  %d = dense(%n, %w, %b) : f32[1,3,4]
  %r = reshape(%d) {{shape=(1, 3, 4)}} : f32[1,3,4]
  %s = add(%n, %r) : f32[1,3,4]
  %y = normalize(%s, %gamma, %b) {{{NORM}}} : f32[1,3,4]
  return y=%y
}}"""
GATED = f"""
  %n = normalize(%e, %gamma, %b) {{{NORM}}} : f32[1,3,4]
  %u = dense(%n, %w, %b) : f32[1,3,4]
  %v = dense(%n, %w, %b) : f32[1,3,4]
  %g = unary(%u) {{function=silu}} : f32[1,3,4]
  %m = mul(%g, %v) : f32[1,3,4]
  %y = dense(%m, %w, %b) : f32[1,3,4]
  return y=%y
}}"""
ELSEWHERE = """
  %g = unary(%e) {function=gelu} : f32[1,3,4]
  %n = normalize(%g, %gamma, %b) {axes=(1,), centered=True, epsilon=1e-5} : f32[1,3,4]
  %s = add(%e, %n) : f32[1,3,4]
  return s=%s
}"""
ROTATED = f"""
  %n = normalize(%e, %gamma, %b) {{{NORM}}} : f32[1,3,4]
  %u = dense(%n, %w, %b) : f32[1,3,4]
  %c = mul(%u, %w3) : f32[1,3,4]
  %l = slice(%u) {{starts=(0, 0, 0), sizes=(1, 3, 2), steps=(1, 1, 1)}} : f32[1,3,2]
  %m = slice(%u) {{starts=(0, 0, 2), sizes=(1, 3, 2), steps=(1, 1, 1)}} : f32[1,3,2]
  %o = unary(%m) {{function=neg}} : f32[1,3,2]
  %h = concat(%o, %l) {{axis=2}} : f32[1,3,4]
  %i = mul(%h, %w3) : f32[1,3,4]
  %r = add(%c, %i) : f32[1,3,4]
  %q = reshape(%r) {{shape=(1, 3, 2, 2)}} : f32[1,3,2,2]
  %v = reshape(%n) {{shape=(1, 3, 2, 2)}} : f32[1,3,2,2]
  %a = attention(%q, %q, %v) {{scale=1.0, ahead=3}} : f32[1,3,2,2]
  return a=%a
}}"""
NETWORKS = {
    "normalised before layers": (BEFORE, ["e", "u", "d", "s"]),
    "normalised behind sums": (BEHIND, ["e", "n", "d", "r", "s"]),
    "rotated": (ROTATED, ["e", "u", "c", "l", "m", "o", "h", "i"]),
    "with a gate": (GATED, ["e", "u", "v", "g"]),
    "normalised along another axis": (ELSEWHERE, []),
}


def network(text: str, **arrays: np.ndarray) -> Graph:
    return parse(HEAD.rstrip() + text, {"w3": np.zeros((3, 4), np.float32), **arrays})


@pytest.mark.parametrize(("text", "wide"), NETWORKS.values(), ids=NETWORKS)
def test_the_stream_and_pre_activations_have_16_bits(text: str, wide: list[str]) -> None:
    zeros = {name: np.zeros(4, np.float32) for name in ("gamma", "b")}
    assert wide_streams(network(text, w=np.zeros((4, 4), np.float32), **zeros)) == wide


@pytest.fixture
def quantizer() -> Quantizer:
    """Of a block that is normalised behind its sum, with a channel that is far larger."""
    random = np.random.default_rng(0)
    gamma = np.float32([1, 1, 80, 1])
    weights = random.normal(size=(4, 4)).astype(np.float32)
    graph = network(BEHIND, gamma=gamma, b=np.zeros(4, np.float32), w=weights)
    data = random.normal(size=(20, 3, 4)).astype(np.float32)
    return Quantizer(graph, Form.FLOAT, Evidence(samples_of(graph, data), (-1.0, 1.0)))


def widths(quantizer: Quantizer, **fields: Any) -> dict[str, int]:
    config = decide(quantizer, QuantizationConfig(recipe="fast", **fields), lambda *_: 0.0).config
    return activation_bits(quantizer.annotated(config), config)


def test_layers_read_8_bits_of_normalisations_of_their_own(quantizer: Quantizer) -> None:
    found = widths(quantizer)
    assert {t for t, bits in found.items() if bits == 16} == {"e", "n", "d", "s"}
    assert found["n.smooth"] == 8
    (told,) = (r.log.text for r in quantizer.records if r.name == "recipe")
    assert "16 bits for 4 activations of a transformer" in told


def test_they_do_so_without_smoothing(quantizer: Quantizer) -> None:
    found = widths(quantizer, smooth=False)
    assert (found["n"], found["n.smooth"]) == (16, 8)


def test_the_caller_has_8_bits_where_that_is_asked_for(quantizer: Quantizer) -> None:
    assert set(widths(quantizer, activation_bits=8).values()) == {8}
    assert widths(quantizer, overrides={"s": {"activation_bits": 8}})["s"] == 8


def test_it_is_equalized_and_its_biases_are_corrected_by_means(quantizer: Quantizer) -> None:
    def chosen(**fields: Any) -> tuple[Any, Any]:
        config = QuantizationConfig(recipe="fast", **fields)
        config = decide(quantizer, config, lambda *_: 0.0).config
        return config.equalize, config.bias_correction

    assert chosen() == (True, "analytic")
    assert chosen(equalize=False, bias_correction=None) == (False, None)
