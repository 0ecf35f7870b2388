"""Networks that take bytes as they are and return constants: in Python, saved, in the header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from onnx import TensorProto

import qcomp


@pytest.fixture(scope="module")
def net(models: Any) -> qcomp.CompiledNetwork:
    """Images of bytes; one output is computed, three are constants."""
    constants = {
        "c255": np.float32(255),
        "w": np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32),
        "flat": np.int64([1, 12]),
        "bytes": np.float32([-100, 0, 127]),
        "words": np.float32([1000, -3]),
        "reals": np.float32([[0.1, -0.7]]),
    }
    nodes = [
        models.node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        models.node("Div", ["f", "c255"], ["d"]),
        models.node("Reshape", ["d", "flat"], ["r"]),
        models.node("MatMul", ["r", "w"], ["y"]),
        *(models.node("Identity", [n], [f"{n}.out"]) for n in ("bytes", "words", "reals")),
    ]
    outputs = {"y": [1, 3], "bytes.out": [3], "words.out": [2], "reals.out": [1, 2]}
    model = models.build(nodes, {"image": [1, 2, 2, 3]}, outputs, constants)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    images = np.random.default_rng(1).integers(40, 200, (16, 2, 2, 3), np.uint8)
    return qcomp.compile(model, calibration=images, recipe="fast")


def test_every_byte_is_taken_as_it_is(net: qcomp.CompiledNetwork) -> None:
    """Also those that calibration has not seen."""
    (image,) = net.inputs
    assert (image.scale, image.zero_point, image.dtype) == (1.0, -128, "int8")
    x = np.random.default_rng(2).integers(0, 256, (1, 2, 2, 3), np.uint8)
    raw, *_ = net.run_integer((x ^ 0x80).view(np.int8))
    real = net({"image": x})["y"]
    y = net.outputs[0]
    steps = raw.astype(np.float32) - y.zero_point
    assert_array_equal(real, steps * np.float32(y.scale))
    assert_array_equal(real, net.specification({"image": x})["y"])


def test_the_header_says_how_bytes_are_given(net: qcomp.CompiledNetwork, tmp_path: Path) -> None:
    text = (net.save(tmp_path / "out") / f"{net.name}.h").read_text()
    assert "/* input holds whole numbers: q = number + (-128). */" in text


def test_constants_are_returned_by_every_interface(
    net: qcomp.CompiledNetwork, tmp_path: Path
) -> None:
    """Whole numbers exactly, others in 16 bits."""
    x = {"image": np.zeros((1, 2, 2, 3), np.uint8)}
    saved = qcomp.load(net.save(tmp_path / "out"))
    for answer in (net(x), net.specification(x), saved(x)):
        assert_array_equal(answer["bytes.out"].reshape(-1), [-100, 0, 127])
        assert_array_equal(answer["words.out"].reshape(-1), [1000, -3])
        np.testing.assert_allclose(answer["reals.out"], [[0.1, -0.7]], atol=2e-5)
    assert [o.dtype for o in net.outputs] == ["int8", "int8", "int16", "int16"]
