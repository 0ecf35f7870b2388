"""Attention with a mask is as accurate as with one of -16, whatever number says "not at all"."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
from network_builder import Array, Builder
from specified import Runs, quantized, sqnr_by_output

LENGTH, WIDTH = 12, 16
CAUSAL = np.triu(np.ones((LENGTH, LENGTH)), 1) > 0
Masked = Callable[[Builder, str, float], str]


def attention(masked: Masked, value: float, *inputs: str) -> onnx.ModelProto:
    """softmax(masked(q k / 4)) v, with masks among the inputs."""
    b = Builder(17)
    q, k, v = (b("MatMul", "x", b.random.normal(size=(WIDTH, WIDTH)) * 0.3) for _ in range(3))
    scores = b("Div", b("MatMul", q, b("Transpose", k, perm=[0, 2, 1])), 4.0)
    y = b("MatMul", b("Softmax", masked(b, scores, value), axis=-1), v)
    shapes: dict[str, list[int | str]] = {"x": [1, LENGTH, WIDTH]}
    return b.model(shapes | {name: [1, 1, LENGTH] for name in inputs}, [y])


def runs(count: int, seed: int, **masks: Callable[[Array], Array]) -> Runs:
    """Sequences of differing lengths; each mask is made from what is visible."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        x = np.clip(random.normal(size=(1, LENGTH, WIDTH)), -3, 3)
        visible = np.arange(LENGTH)[None, None] < random.integers(5, LENGTH + 1)
        run = {"x": x, **{name: make(visible) for name, make in masks.items()}}
        found.append({name: a.astype(np.float32) for name, a in run.items()})
    return found


def added(b: Builder, scores: str, value: float) -> str:
    return b("Add", scores, np.where(CAUSAL, value, 0.0))


def subtracted(b: Builder, scores: str, value: float) -> str:
    return b("Sub", scores, np.where(CAUSAL, -value, 0.0))


def smaller(b: Builder, scores: str, value: float) -> str:
    return b("Min", scores, np.where(CAUSAL, value, 30000.0))


def beside_a_bias(b: Builder, scores: str, value: float) -> str:
    distance = np.abs(np.subtract.outer(np.arange(LENGTH), np.arange(LENGTH)))
    return b("Add", scores, np.where(CAUSAL, value, -0.3 * distance))


def an_input(b: Builder, scores: str, value: float) -> str:
    return b("Add", scores, "mask")


def made_from_what_is_kept(b: Builder, scores: str, value: float) -> str:
    return b("Add", scores, b("Mul", b("Sub", 1.0, "kept"), value))


def two(b: Builder, scores: str, value: float) -> str:
    return added(b, an_input(b, scores, value), value)


CASES: list[tuple[Masked, float]] = [
    (added, -1e4),
    (added, -1e9),
    (added, -3.4e38),
    (added, -np.inf),
    (subtracted, -65504.0),
    (smaller, -1e9),
    (smaller, -np.inf),
    (beside_a_bias, -np.inf),
    (an_input, -65504.0),
    (an_input, -np.inf),
    (made_from_what_is_kept, -1e4),
    (made_from_what_is_kept, -3.4e38),
    (two, -3.4e38),
    (two, -np.inf),
]


@pytest.mark.parametrize(("masked", "value"), CASES)
def test_a_mask_costs_no_accuracy(masked: Masked, value: float) -> None:
    assert accuracy(masked, value) > accuracy(masked, -16.0) - 1.0


@cache
def accuracy(masked: Masked, value: float) -> float:
    """The SQNR of the output."""
    makes: dict[str, Callable[[Array], Array]] = {}
    if masked in (an_input, two):
        makes["mask"] = lambda visible: np.where(visible, 0.0, value)
    if masked is made_from_what_is_kept:
        makes["kept"] = np.asarray
    model = attention(masked, value, *makes)
    graph = quantized(model, runs(16, 0, **makes))
    (found,) = sqnr_by_output(model, graph, runs(4, 1, **makes)).values()
    return found
