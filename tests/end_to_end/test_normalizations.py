"""Normalisations of every kind are one op, and as accurate as their bits allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from network_builder import Builder
from numpy.testing import assert_array_equal
from specified import Runs, quantized, sqnr_by_output

import qcomp
from qcomp.ir.ops import QNormalize

Kind = Callable[[Builder], str]
SEQUENCE, IMAGE = [1, 12, 32], [1, 8, 6, 6]


def parameters(b: Builder, *shape: int) -> tuple[Any, Any]:
    return b.random.uniform(0.5, 1.5, shape), b.random.normal(size=shape) * 0.3


def layer(axis: int, bias: bool) -> Kind:
    def kind(b: Builder) -> str:
        gamma, beta = parameters(b, *SEQUENCE[axis:])
        return b("LayerNormalization", "x", gamma, *([beta] if bias else []), axis=axis)

    return kind


def root_mean_square(b: Builder) -> str:
    power = b("ReduceMean", b("Pow", "x", 2.0), axes=[-1])
    root = b("Sqrt", b("Add", power, 1e-6))
    return b("Mul", b("Mul", "x", b("Reciprocal", root)), parameters(b, 32)[0])


def length(b: Builder) -> str:
    return b("Div", "x", b("Clip", b("ReduceL2", "x", axes=[-1]), 1e-12))


def unit(b: Builder) -> str:
    return b("LpNormalization", "x", axis=1, p=2)


def instance(b: Builder) -> str:
    return b("InstanceNormalization", "x", *parameters(b, SEQUENCE[1]))


def instance_of_images(b: Builder) -> str:
    return b("InstanceNormalization", "x", *parameters(b, IMAGE[1]))


def groups(b: Builder) -> str:
    """As torch exports it."""
    grouped = b("Reshape", "x", np.array([0, 4, -1]))
    y = b("InstanceNormalization", grouped, np.ones(4), np.zeros(4))
    gamma, beta = parameters(b, 8, 1, 1)
    return b("Add", b("Mul", b("Reshape", y, np.array(IMAGE)), gamma), beta)


KINDS: dict[str, tuple[Kind, list[int]]] = {
    **{f"layer {axis}": (layer(axis, axis != 2), SEQUENCE) for axis in (0, 1, 2, -1)},
    "root mean square": (root_mean_square, SEQUENCE),
    "length": (length, SEQUENCE),
    "unit": (unit, SEQUENCE),
    "instance": (instance, SEQUENCE),
    "instance of images": (instance_of_images, IMAGE),
    "groups": (groups, IMAGE),
}


def runs(shape: list[int], count: int, seed: int) -> Runs:
    """Rows whose means and deviations differ by a factor of three."""
    random = np.random.default_rng(seed)
    rows = (count, *shape[:-1], 1)
    x = random.normal(size=(count, *shape)) * random.uniform(1, 3, rows) + random.normal(size=rows)
    return [{"x": run} for run in x.astype(np.float32)]


@pytest.mark.parametrize("name", KINDS)
def test_they_are_accurate(name: str) -> None:
    kind, shape = KINDS[name]
    b = Builder(17)
    model = b.model({"x": list(shape)}, [kind(b)])
    calibration, test = runs(shape, 16, 0), runs(shape, 8, 1)
    for bits, least in ((8, 32.0), (16, 66.0)):
        graph = quantized(model, calibration, activation_bits=bits)
        assert [type(op) for op in graph.ops()].count(QNormalize) == 1
        (decibels,) = sqnr_by_output(model, graph, test).values()
        assert decibels > least, bits


@pytest.mark.parametrize("name", ["layer 2", "groups"])
def test_compiled_networks_compute_their_specification(name: str) -> None:
    kind, shape = KINDS[name]
    b = Builder(17)
    model = b.model({"x": list(shape)}, [b("Relu", kind(b))])
    calibration = [run["x"] for run in runs(shape, 12, 0)]
    config = qcomp.QuantizationConfig(recipe="fast")
    net = qcomp.compile(model, calibration=[x[0] for x in calibration], config=config)
    for run in runs(shape, 4, 1):
        assert_array_equal(net.specification(run["x"]), net(run["x"]))
