"""Inputs as a product has them, bytes with channels last, and outputs as it wants them: indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from network_builder import Builder
from numpy.testing import assert_allclose, assert_array_equal

import qcomp
from qcomp.cli import main
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError
from qcomp.execute.session import FloatSession
from qcomp.frontends import import_model

MEAN, STD = (123.5, 116.25, 103.0), (58.5, 57.0, 57.5)
SHAPE = (1, 3, 8, 6)


def model(padding: int) -> onnx.ModelProto:
    """A classifier that wants normalized floats, channels first."""
    b = Builder(17)
    x = b("Relu", b.conv("image", (8, 3, 3, 3), pads=[padding] * 4))
    return b.model({"image": SHAPE}, [b.head(x, 8, 7)])


def photos(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (1, 8, 6, 3), np.uint8) for _ in range(count)]


def floats(photo: np.ndarray) -> np.ndarray:
    """What the model itself takes."""
    x = (photo.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


BYTES = {"type": "uint8", "mean": MEAN, "std": STD, "layout": "NHWC"}


def compiled(padding: int, **choices: Any) -> qcomp.CompiledNetwork:
    config = QuantizationConfig(recipe="fast", **choices)
    return qcomp.compile(model(padding), calibration=photos(16), config=config, name="net")


@pytest.mark.parametrize("padding", [0, 1])
def test_bytes_of_a_camera_are_taken_as_they_are(padding: int) -> None:
    net = compiled(padding, inputs={"image": BYTES})
    (image,) = net.inputs
    assert (image.shape, image.dtype, image.scale, image.zero_point) == (
        (1, 8, 6, 3),
        "int8",
        1,
        -128,
    )
    session = FloatSession(import_model(model(padding)).graph)
    for photo in photos(6, seed=1):
        (expected,) = session.run({"image": floats(photo)}).values()
        assert_allclose(net(photo), expected, atol=0.03 * np.abs(expected).max())
        raw = net.run_integer((photo ^ 0x80).view(np.int8))
        assert_array_equal(raw, net.run_integer(net.quantized(photo)))


def test_mean_and_deviation_are_in_the_weights_of_a_layer_without_padding() -> None:
    """As many operators as for floats, and as accurate as with none rounded before."""
    net = compiled(0, inputs={"image": BYTES})
    plain = QuantizationConfig(recipe="fast")
    other = qcomp.compile(model(0), calibration=[floats(p) for p in photos(16)], config=plain)
    kinds = [op.mnemonic for op in net.graph.ops()]
    assert kinds == [op.mnemonic for op in other.graph.ops() if op.mnemonic != "transpose"]


def test_one_mean_for_all_is_a_table_before_a_layer_with_padding() -> None:
    inputs = {"*": {"type": "uint8", "mean": 127.5, "std": 127.5, "layout": "NHWC"}}
    net = compiled(1, inputs=inputs)
    assert [op.mnemonic for op in net.graph.ops()][:2] == ["table", "q_conv2d"]


def test_the_choices_are_in_the_recipe_and_the_directory(tmp_path: Path) -> None:
    net = compiled(0, inputs={"image": BYTES}, outputs={})
    again = qcomp.load(net.save(tmp_path / "net"))
    assert again.inputs == net.inputs
    recipe = tmp_path / "net" / "net.recipe.yaml"
    other = qcomp.compile(model(0), calibration=photos(16), recipe=recipe, name="net")
    assert str(other.graph) == str(net.graph)


def test_the_index_of_the_largest_is_an_output() -> None:
    b = Builder(17)
    logits = b.head(b.conv("image", (8, 3, 3, 3)), 8, 7)
    probabilities = b.model({"image": SHAPE}, [b("Softmax", logits)])
    (name,) = (o.name for o in probabilities.graph.output)
    calibration = [floats(p) for p in photos(16)]
    plain = qcomp.compile(probabilities, calibration=calibration, recipe="fast", name="net")
    config = QuantizationConfig(recipe="fast", outputs={name: "argmax"}, float_tail=True)
    net = qcomp.compile(probabilities, calibration=calibration, config=config, name="net")
    (output,) = net.outputs
    assert (output.dtype, output.shape) == ("int32", (1,))
    assert "softmax" not in str(net.graph)
    same = [int(net(x)[0]) == int(plain(x).argmax()) for x in calibration]
    assert np.mean(same) > 0.9
    for x in calibration:
        assert_array_equal(net(x), net.specification(x))


def test_the_options_of_the_command_are_the_fields(tmp_path: Path) -> None:
    onnx.save(model(0), tmp_path / "net.onnx")
    np.save(tmp_path / "photos.npy", np.concatenate(photos(4)))
    (output,) = (o.name for o in model(0).graph.output)
    options = ["--input-type", "uint8", "--input-layout", "image=NHWC", "--argmax", output]
    options += ["--input-mean", "123.5,116.25,103", "--input-std", "58.5,57,57.5"]
    command = ["compile", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out"), *options]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--calibration", str(tmp_path / "photos.npy"), "--recipe", "fast"])
    assert ended.value.code == 0
    net = qcomp.load(tmp_path / "out")
    assert net.config.inputs["image"] == {**BYTES, "mean": list(MEAN), "std": list(STD)}
    assert [o.dtype for o in net.outputs] == ["int32"]


MISTAKES = {
    "no input is named 'photo'; expected some of image": {"photo": {"type": "uint8"}},
    "expected one of float32, uint8, int8": {"image": {"type": "uint4"}},
    "expected some of type, mean, std, layout": {"image": {"kind": "uint8"}},
    "expected 'NHWC' or none": {"image": {"layout": "CHW"}},
    "expected positive numbers": {"image": {"std": 0.0}},
    "expected a number, or one for each channel": {"image": {"mean": "120"}},
    "2 means and 3 deviations": {"image": {"mean": (1, 2), "std": (1, 2, 3)}},
    "0 of its axes have 5 elements": {"image": {"mean": (1, 2, 3, 4, 5)}},
}


@pytest.mark.parametrize("reason", MISTAKES)
def test_a_mistake_is_named(reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        compiled(0, inputs=MISTAKES[reason])


def test_an_output_that_is_no_index_is_named() -> None:
    with pytest.raises(CompileError, match="outputs: 'y': 'top5'; expected argmax"):
        QuantizationConfig(outputs={"y": "top5"})
    with pytest.raises(CompileError, match="no output is named 'y'; expected some of"):
        compiled(0, inputs={"image": BYTES}, outputs={"y": "argmax"})


def test_a_model_of_integers_keeps_its_inputs(tmp_path: Path) -> None:
    net = compiled(0, inputs={"image": BYTES})
    net.export(tmp_path / "net.tflite")
    config = QuantizationConfig(recipe="fast", inputs={"*": {"type": "uint8"}})
    with pytest.raises(CompileError, match="form qdq, whose inputs are integers already"):
        qcomp.compile(tmp_path / "net.tflite", config=config)
