"""Which tensors have 32 bits because steep functions read squares, and what these gain by it."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.errors import RecipeError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse
from qcomp.quantizer import Quantizer
from qcomp.recipes.choose import decide
from qcomp.recipes.decades import read_over_decades
from qcomp.recipes.decisions import with_fine_decisions
from tests.recipes.test_steep import decibels

POWER = """graph @g(%x: f32[1,16]) {
  %w = constant : f32[16,16]
  %m = constant : f32[16,16]
  %b = constant : f32[16]
  %eps = constant : f32[1]
  %l = dense(%x, %w, %b) : f32[1,16]
  %q = mul(%l, %l) : f32[1,16]
"""
MEL = f"""{POWER} %f = dense(%q, %m, %b) : f32[1,16]
  %e = add(%f, %eps) : f32[1,16]
"""
ENDS = " : f32[1,16]\n  return y=%y\n}"
CASES = {
    "a logarithm of bands": (f"{MEL} %y = unary(%e) {{function=log}}{ENDS}", ["q", "f", "e"]),
    "a root of them": (
        f"{MEL} %y = unary(%e) {{function=pow, alpha=0.3333333333333333}}{ENDS}",
        ["q", "f", "e"],
    ),
    "what is divided by their means": (
        f"""{MEL} %n = reduce(%e) {{kind=mean, axes=(1,), keepdims=True}} : f32[1,1]
  %y = div(%e, %n){ENDS}""",
        ["q", "f", "e", "n"],
    ),
    "a bounded root, and its logarithm": (
        f"""{MEL} %c = clamp(%e) {{clamp=ClampRange(low=0.0005, high=inf)}} : f32[1,16]
  %s = unary(%c) {{function=sqrt}} : f32[1,16]
  %y = unary(%s) {{function=log}}{ENDS}""",
        ["q", "f", "e", "c", "s"],
    ),
    "a sigmoid": (f"{MEL} %y = unary(%e) {{function=sigmoid}}{ENDS}", []),
    "what an op of 16 bits reads as well": (
        f"""{POWER} %s = unary(%q) {{function=sqrt}} : f32[1,16]
  %y = maximum(%s, %q){ENDS}""",
        [],
    ),
}
ACCURATE = [name for name, (_, sums) in CASES.items() if sums]
RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.normal(size=(16, 16)).astype(np.float32),
    "m": np.square(RNG.normal(size=(16, 16))).astype(np.float32) / 16,
    "b": np.zeros(16, np.float32),
    "eps": np.full(1, 1e-4, np.float32),
}


def network(text: str) -> Graph:
    return parse(text, {name: data for name, data in CONSTANTS.items() if f"%{name} =" in text})


@pytest.mark.parametrize(("text", "sums"), CASES.values(), ids=CASES)
def test_squares_on_the_way_to_steep_functions_have_32_bits(text: str, sums: list[str]) -> None:
    found = read_over_decades(network(text))
    assert sorted(found.sums) == sorted(sums)
    assert found.sources == (["x", "l"] if sums else [])


@pytest.mark.parametrize("name", ACCURATE)
def test_they_are_accurate(name: str) -> None:
    graph, plain = network(CASES[name][0]), QuantizationConfig(recipe="fast")
    wide = decibels(graph, with_fine_decisions(graph, plain, sums=True))
    assert wide > max(40.0, decibels(graph, with_fine_decisions(graph, plain)) + 10.0)


def test_who_asks_for_other_bits_gets_them() -> None:
    graph = network(CASES["a logarithm of bands"][0])
    narrow = QuantizationConfig(activation_bits=8)
    assert with_fine_decisions(graph, narrow, sums=True) == narrow
    own = QuantizationConfig(overrides={"q": {"activation_bits": 16}})
    chosen = with_fine_decisions(graph, own, sums=True).overrides
    assert [chosen[id]["activation_bits"] for id in ("q", "f", "e", "l")] == [16, 32, 32, 16]


def test_all_in_32_bits_is_refused() -> None:
    graph = network(CASES["a sigmoid"][0])
    quantizer = Quantizer(
        graph, Form.FLOAT, Evidence(samples_of(graph, np.zeros((1, 1, 16))), None)
    )
    with pytest.raises(RecipeError, match="32 in the override of such a sum"):
        decide(quantizer, QuantizationConfig(activation_bits=32), lambda _: 0.0)
