"""Scales that are found in each run: the specification's integers, as accurate for small inputs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from network_builder import Array, Builder
from numpy.testing import assert_array_equal
from specified import Runs, sqnr_by_output

import qcomp
from qcomp.errors import RecipeError, TargetError
from qcomp.ir.ops import QConv2d, QDense, QScaleUp
from qcomp.ir.tensor import DType

ROWS, IMAGE = [1, 6, 24], [1, 3, 9, 9]


def rows(b: Builder) -> str:
    """Two dense layers on rows, one behind a curve."""
    return b.linear(b("Relu", b.linear("x", 24, 40)), 40, 17)


def images(b: Builder) -> str:
    """A convolution with padding, a depthwise one, and a dense layer."""
    y = b.block("x", (8, 3, 3, 3), strides=[2, 2])
    y = b.block(y, (8, 1, 3, 3), act="relu6", group=8)
    return b.dense(b("Flatten", y), 200, 10)


KINDS = {"rows": (rows, ROWS), "images": (images, IMAGE)}


@cache
def model(name: str) -> onnx.ModelProto:
    kind, shape = KINDS[name]
    b = Builder(17)
    return b.model({"x": shape}, [kind(b)])


def inputs(name: str, count: int, seed: int) -> Array:
    shape = KINDS[name][1]
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


@cache
def compiled(name: str, activations: str = "dynamic") -> Any:
    config = qcomp.QuantizationConfig(recipe="fast", activations=activations)
    calibration = [x[0] for x in inputs(name, 16, 0)]
    return qcomp.compile(model(name), calibration=calibration, config=config)


@pytest.mark.parametrize("name", KINDS)
def test_every_layer_has_a_scale_of_its_own(name: str) -> None:
    graph = compiled(name).graph
    layers = [op for op in graph.ops() if isinstance(op, QConv2d | QDense)]
    assert all(graph.type(op.x).dtype is DType.I8 for op in layers)
    assert all(isinstance(reader, QScaleUp) for op in layers for reader in graph.consumers(op.id))


@pytest.mark.parametrize("name", KINDS)
def test_the_code_computes_its_specification(name: str) -> None:
    net = compiled(name)
    for x in (*inputs(name, 3, 1), np.zeros(KINDS[name][1], np.float32)):
        for threads in (1, 2):
            assert_array_equal(net.specification(x), net(x, threads=threads))


@pytest.mark.parametrize("name", KINDS)
def test_inputs_of_any_size_are_as_accurate(name: str) -> None:
    """The first result behind a hundredth of the input, whose static steps would be too coarse."""
    small: Runs = [{"x": x / 64} for x in inputs(name, 8, 1)]
    found = {}
    for activations in ("static", "dynamic"):
        net = compiled(name, activations)
        (found[activations],) = sqnr_by_output(model(name), net.graph, small).values()
    assert found["dynamic"] > found["static"] + 1.0


def test_scales_of_images_and_16_bits_exclude_each_other() -> None:
    config = qcomp.QuantizationConfig(activations="dynamic", activation_bits=16)
    with pytest.raises(RecipeError, match="expected activation_bits 'auto' or 8"):
        qcomp.compile(model("rows"), config=config)


def test_another_compiler_refuses_them_by_name() -> None:
    pytest.importorskip("tvm")
    config = qcomp.QuantizationConfig(recipe="fast", activations="dynamic")
    with pytest.raises(TargetError, match="scales that are found at run time"):
        qcomp.compile(
            model("rows"), "tvm-llvm", calibration=list(inputs("rows", 4, 0)[:, 0]), config=config
        )
