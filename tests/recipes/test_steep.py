"""Which tensors have 16 bits because steep functions are of them, and what these gain by it."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.ir.evaluate import evaluate
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse
from qcomp.quant.metrics import sqnr_db
from qcomp.quant.qparams import dequantize, quantize
from qcomp.quantizer import Quantizer
from qcomp.recipes.decisions import with_fine_decisions
from qcomp.recipes.named import settled
from qcomp.recipes.steep import read_steeply

LAYER = """graph @g(%x: f32[1,16]) {
  %w = constant : f32[16,16]
  %b = constant : f32[16]
  %eps = constant : f32[1]
  %l = dense(%x, %w, %b) : f32[1,16]
"""
SQUARES = """%q = mul(%l, %l) : f32[1,16]
  %e = reduce(%q) {kind=max, axes=(1,), keepdims=True} : f32[1,1]
"""
NORM = f"""{SQUARES} %p = add(%e, %eps) : f32[1,1]
  %s = unary(%p) {{function=sqrt}} : f32[1,1]
"""
READERS = {
    "a square root of a layer": (
        "%c = unary(%l) {function=abs} : f32[1,16]\n"
        "%y = unary(%c) {function=sqrt} : f32[1,16]\n return y=%y\n}",
        ["c", "l"],
    ),
    "a logarithm, with the layer's input": (
        "%a = unary(%l) {function=softplus} : f32[1,16]\n"
        "%y = unary(%a) {function=log} : f32[1,16]\n return y=%y\n}",
        ["x", "a", "l"],
    ),
    "a power below 1": (
        "%y = unary(%l) {function=pow, alpha=0.3} : f32[1,16]\n return y=%y\n}",
        ["l"],
    ),
    "a power above 1": (
        "%y = unary(%l) {function=pow, alpha=2.0} : f32[1,16]\n return y=%y\n}",
        [],
    ),
    "a divisor": (
        f"{NORM} %y = div(%l, %s) : f32[1,16]\n return y=%y\n}}",
        ["l", "q", "e", "p", "s"],
    ),
    "a reciprocal that a product reads": (
        f"{NORM} %r = unary(%s) {{function=reciprocal}} : f32[1,1]\n"
        "%y = mul(%l, %r) : f32[1,16]\n return y=%y\n}",
        ["l", "q", "e", "p", "s", "r"],
    ),
    "a normalisation": (
        "%g = constant : f32[1]\n"
        "%y = normalize(%l, %g, %g) {axes=(1,), centered=True, epsilon=0.001} : f32[1,16]\n"
        " return y=%y\n}",
        ["l"],
    ),
    "a layer that something else reads": (
        f"{NORM} %n = div(%l, %s) : f32[1,16]\n%y = add(%l, %n) : f32[1,16]\n return y=%y\n}}",
        ["q", "e", "p", "s"],
    ),
    "an output": (
        "%y = unary(%l) {function=sqrt} : f32[1,16]\n return y=%y, l=%l\n}",
        [],
    ),
    "a sigmoid": ("%y = unary(%l) {function=sigmoid} : f32[1,16]\n return y=%y\n}", []),
}


CONSTANTS = {
    "w": np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32),
    "b": np.zeros(16, np.float32),
    "eps": np.full(1, 1e-4, np.float32),
    "g": np.ones(1, np.float32),
}


def network(readers: str) -> Graph:
    text = LAYER + readers
    return parse(text, {name: data for name, data in CONSTANTS.items() if f"%{name} =" in text})


@pytest.mark.parametrize(("readers", "wide"), READERS.values(), ids=READERS)
def test_what_steep_functions_are_of_has_16_bits(readers: str, wide: list[str]) -> None:
    assert sorted(read_steeply(network(readers))) == sorted(wide)


def decibels(graph: Graph, config: QuantizationConfig) -> float:
    """Of the integers, on samples whose sizes differ by a factor of ten."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(48, 16)) * 10.0 ** rng.uniform(-1.0, 0.0, (48, 1))
    x = x.astype(np.float32)
    calibration = samples_of(graph, x[:24])
    quantizer = Quantizer(graph, Form.FLOAT, Evidence(calibration, (-1.0, 1.0)))
    integer = quantizer.integer(settled(config, calibrated=True))
    (source,), (result,) = (
        [integer.tensor(t).qparams for t in ends.values()]
        for ends in (integer.inputs, integer.outputs)
    )
    assert source is not None
    assert result is not None
    expected = [evaluate(graph, {"x": run[None]})["y"] for run in x[24:]]
    got = [
        dequantize(evaluate(integer, {"x": quantize(run[None], source)})["y"], result)
        for run in x[24:]
    ]
    return sqnr_db(np.concatenate(expected), np.concatenate(got))


@pytest.mark.parametrize(
    ("what", "least"),
    [
        ("a divisor", 25.0),
        ("a reciprocal that a product reads", 25.0),
        ("a square root of a layer", 30.0),
        ("a logarithm, with the layer's input", 30.0),
    ],
)
def test_steep_functions_are_accurate_at_8_bits(what: str, least: float) -> None:
    graph = network(READERS[what][0])
    plain = QuantizationConfig(recipe="fast")
    wide = decibels(graph, with_fine_decisions(graph, plain))
    assert wide > max(least, decibels(graph, plain) + 4.0)
