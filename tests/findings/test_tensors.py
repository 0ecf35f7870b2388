"""Tensors whose range a handful of values makes, or none, are found by data."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from qcomp.calibration.collect import collect
from qcomp.calibration.samples import samples_of
from qcomp.findings.record import Finding
from qcomp.findings.tensors import constant, outliers
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse

RANDOM = np.random.default_rng(8)
GRAPH = parse(
    "graph @net(%x: f32[1,32,32]) {\n"
    "  %e = unary(%x) {function=exp, alpha=1.0, beta=0.0} : f32[1,32,32]\n"
    "  %c = clamp(%x) {clamp=ClampRange(low=5.0, high=6.0)} : f32[1,32,32]\n"
    "  %y = add(%e, %c) {clamp=ClampRange(low=-inf, high=inf)} : f32[1,32,32]\n  return y=%y\n}"
)

COPY = parse("graph @net(%x: f32[1,32,32]) {\n  return y=%x\n}")


def found(values: NDArray[np.generic], graph: Graph = COPY) -> list[Finding]:
    data = samples_of(graph, values.astype(np.float32))
    return list(outliers(graph, collect(graph, data), data))


def normal() -> NDArray[np.float64]:
    return np.clip(RANDOM.standard_normal((48, 32, 32)), -3.0, 3.0)


def test_one_glitch_is_told_with_its_count_share_and_sample() -> None:
    values = normal()
    values[17, 3, 4] = -1000.0
    (finding,) = found(values)
    assert finding.where == "x"
    assert finding.text == "1 of 49,152 values takes 99.7 % of the range, in calibration sample 17"
    assert finding.number == pytest.approx(0.997, abs=1e-3)
    assert "the others reach 3" in finding.help


def test_a_handful_in_two_samples_is_told_and_more_are_no_outliers() -> None:
    values = normal()
    values[[2, 2, 9], [0, 1, 2], 0] = [50.0, 40.0, 60.0]
    (finding,) = found(values)
    assert finding.text.startswith("3 of 49,152 values take 95.0 % of the range")
    assert finding.text.endswith("sample 9, 2")
    values[9, 2, 0] = values[:, 0, 0] = 50.0
    assert found(values) == []


def test_one_sample_of_another_scale_is_told_and_loud_and_quiet_ones_are_not() -> None:
    values = normal()
    values[20] *= 40.0
    (finding,) = found(values)
    assert finding.text.startswith("1 of 48 samples takes 97.")
    assert finding.text.endswith("in calibration sample 20")
    values[0:20:5] *= 40.0
    assert found(values) == []


@pytest.mark.parametrize("tail", ["normal", "laplace", "standard_t"])
def test_long_tails_are_no_outliers(tail: str) -> None:
    draw = getattr(RANDOM, tail)
    arguments = (4,) if tail == "standard_t" else ()
    assert found(draw(*arguments, size=(48, 32, 32)) * 0.3) == []


def test_few_values_are_all_that_there_is() -> None:
    small = parse("graph @net(%x: f32[1,4]) {\n  return y=%x\n}")
    data = samples_of(small, np.array([[1.0, 1.0, 1.0, 90.0]] * 3, np.float32))
    assert list(outliers(small, collect(small, data), data)) == []


def test_a_tensor_behind_whose_range_one_value_makes_is_told_where_no_input_is() -> None:
    values = normal()
    values[5, 6, 7] = 9.0  # exp(9) is 400 times exp(3), 9 is three times 3
    (finding,) = found(values, GRAPH)
    assert finding.where == "e"
    assert finding.text.startswith("1 of 49,152 values take 99.")


def test_constant_tensors_are_one_finding() -> None:
    data = samples_of(GRAPH, np.zeros((2, 32, 32), np.float32))
    (finding,) = constant(GRAPH, collect(GRAPH, data))
    assert finding.where == "x, e, c, y"
    assert finding.text == "constant on the calibration data (4 of 4 tensors)"
    data = samples_of(GRAPH, normal().astype(np.float32))
    (finding,) = constant(GRAPH, collect(GRAPH, data))
    assert (finding.where, finding.number) == ("c", 1)
