"""Batch normalisations and answers tell data that a network was not trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qcomp.calibration.samples import Run
from qcomp.findings.behaviour import behaviour
from qcomp.findings.record import Finding, Kind
from qcomp.ir.graph import Graph
from qcomp.ir.parse import parse

RANDOM = np.random.default_rng(6)
LAYERS, CHANNELS, CLASSES = 5, 8, 6


def network(*, batch_norm: bool) -> Graph:
    """Layers whose batch normalisations are those of standard normal inputs, and six classes."""
    lines, constants, x = [], {}, "x"
    signal = RANDOM.standard_normal((4000, CHANNELS))
    for i in range(LAYERS):
        weight = RANDOM.standard_normal((CHANNELS, CHANNELS)) / np.sqrt(CHANNELS)
        made = signal @ weight.T
        mean, var = made.mean(0), made.var(0)
        for name, value in {
            "w": weight,
            "b": np.zeros(CHANNELS),
            "g": np.ones(CHANNELS),
            "z": np.zeros(CHANNELS),
            "m": mean,
            "v": var,
        }.items():
            constants[f"{name}{i}"] = value.astype(np.float32)
            shape = f"{CHANNELS},{CHANNELS}" if name == "w" else f"{CHANNELS}"
            lines.append(f"%{name}{i} = constant : f32[{shape}]")
        dense = f"%d{i} = dense(%{x}, %w{i}, %b{i}) {{clamp=ClampRange(low=-inf, high=inf)}}"
        lines.append(f"{dense} : f32[1,{CHANNELS}]")
        x = f"d{i}"
        if batch_norm:
            operands = f"%d{i}, %g{i}, %z{i}, %m{i}, %v{i}"
            lines.append(f"%n{i} = batch_norm({operands}) {{eps=1e-05}} : f32[1,{CHANNELS}]")
            x = f"n{i}"
            made = (made - mean) / np.sqrt(var)
        lines.append(
            f"%r{i} = unary(%{x}) {{function=tanh, alpha=1.0, beta=0.0}} : f32[1,{CHANNELS}]"
        )
        x, signal = f"r{i}", np.tanh(made)
    body = "\n".join(f"  {line}" for line in lines)
    text = f"graph @net(%x: f32[1,{CHANNELS}]) {{\n{body}\n  return y=%{x}\n}}"
    return parse(text, constants)


def found(graph: Graph, values: NDArray[Any], batch: int = 1, **told: bool) -> list[Finding]:
    runs: list[Run] = [{"x": v[None].astype(np.float32)} for v in values]
    return list(behaviour(graph, runs, batch, **{"scale_is_told": False, **told}))


@pytest.fixture(scope="module")
def normalized() -> Graph:
    return network(batch_norm=True)


def test_inputs_as_in_training_are_not_told_of(normalized: Graph) -> None:
    assert found(normalized, RANDOM.standard_normal((64, CHANNELS))) == []


@pytest.mark.parametrize("scale", [0.3, 6.0])
def test_inputs_of_another_scale_make_deviations_that_are_off(
    normalized: Graph, scale: float
) -> None:
    values = scale * RANDOM.standard_normal((64, CHANNELS))
    (finding,) = found(normalized, values)
    assert finding.kind is Kind.UNLIKE_TRAINING
    assert finding.number >= 1.18
    assert "what its 5 batch normalisations read deviates" in finding.text
    assert Kind.UNLIKE_TRAINING not in {
        f.kind for f in found(normalized, values, scale_is_told=True)
    }


def test_the_same_answer_to_nearly_all_samples_is_told() -> None:
    graph = network(batch_norm=False)
    assert found(graph, RANDOM.standard_normal((32, CHANNELS))) == []
    near = np.full((16, CHANNELS), 2.0) + 0.01 * RANDOM.standard_normal((16, CHANNELS))
    (finding,) = found(graph, near)
    assert finding.kind is Kind.ONE_ANSWER
    assert finding.text.startswith("16 of 16 samples get the same answer, ")
    assert found(graph, near[:8]) == []  # too few to tell
