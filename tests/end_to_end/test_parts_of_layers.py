"""Parts of a layer that have ranges far apart keep the accuracy of layers of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from network_builder import Array, Builder, Network
from specified import Runs, quantized, sqnr_by_output

SHAPE = (1, 3, 8, 8)


def uneven(b: Builder, *shape: int) -> Array:
    """Weights whose last half of channels is 30 times the first."""
    weight = b.random.normal(size=shape) * 0.2
    weight[len(weight) // 2 :] *= 30
    return weight


def gated(b: Builder, y: str, axis: int) -> list[str]:
    """p * sigmoid(p) + p + tanh(q) of the halves p and q."""
    p, q = b.several("Split", y, outputs=2, axis=axis)
    return [b("Add", b("Add", b("Mul", b("Sigmoid", p), p), p), b("Tanh", q))]


def convolution(b: Builder, x: str) -> list[str]:
    return gated(b, b("Conv", x, uneven(b, 8, 3, 3, 3), pads=[1] * 4), 1)


def depthwise(b: Builder, x: str) -> list[str]:
    y = b("Conv", x, uneven(b, 8, 3, 1, 1))
    return gated(b, b("Conv", y, b.random.normal(size=(8, 1, 3, 3)), group=8), 1)


def dense(b: Builder, x: str) -> list[str]:
    return gated(b, b("MatMul", x, uneven(b, 16, 8).T), 3)


def activated(b: Builder, x: str) -> list[str]:
    y = b("Conv", x, uneven(b, 8, 3, 3, 3))
    return gated(b, b("LeakyRelu", y), 1)


BARS: list[tuple[Callable[[Builder, str], list[str]], float]] = [
    (convolution, 28.0),
    (depthwise, 20.0),
    (dense, 28.0),
    (activated, 30.0),
]


@pytest.mark.parametrize(("write", "bar"), BARS)
def test_each_part_of_a_layer_has_a_range_of_its_own(
    write: Callable[[Builder, str], list[str]], bar: float
) -> None:
    model = Network(write, SHAPE, (), opset=11).build()
    (found,) = sqnr_by_output(model, quantized(model, runs(16, 0)), runs(4, 1)).values()
    assert found > bar


def runs(count: int, seed: int) -> Runs:
    random = np.random.default_rng(seed)
    return [{"x0": random.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]
