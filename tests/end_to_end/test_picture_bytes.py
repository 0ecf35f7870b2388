"""Pictures for inputs of bytes: the same network, whose library computes what pixels become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcomp
from qcomp.errors import CompileError
from qcomp.picture_bytes import with_picture_bytes
from qcomp.preprocessing import Preprocessing

BYTES = {"type": "uint8", "layout": "NHWC"}
HOW = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5))


def test_what_pixels_become_goes_to_the_form_of_the_input() -> None:
    config = qcomp.QuantizationConfig(inputs={"x": BYTES}, preprocessing=HOW)
    found = with_picture_bytes(config, pictures=True)
    assert found.preprocessing == Preprocessing(white=255.0, layout="nhwc")
    assert found.inputs["x"]["mean"] == pytest.approx([102.0, 127.5, 153.0])
    assert found.inputs["x"]["std"] == pytest.approx([51.0, 63.75, 127.5])
    assert with_picture_bytes(found, pictures=True) == found


def test_pictures_of_which_nothing_is_said_are_taken_as_ever() -> None:
    config = qcomp.QuantizationConfig(inputs={"*": BYTES})
    found = with_picture_bytes(config, pictures=True)
    assert (found.inputs["*"]["mean"], found.inputs["*"]["std"]) == ([0.0], [255.0])
    assert with_picture_bytes(config, pictures=False) == config
    floats = qcomp.QuantizationConfig(preprocessing=HOW)
    assert with_picture_bytes(floats, pictures=True) == floats


def test_a_mean_is_given_once() -> None:
    own = {"x": {**BYTES, "mean": 127.5}}
    twice = qcomp.QuantizationConfig(inputs=own, preprocessing=HOW)
    with pytest.raises(CompileError, match="'x' has a mean or a deviation of its own"):
        with_picture_bytes(twice, pictures=True)
    once = with_picture_bytes(qcomp.QuantizationConfig(inputs=own), pictures=True)
    assert once.inputs == own


def test_bytes_of_pictures_give_what_their_floats_give(models: Any, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="needs qcomp[data]")
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
    for n, picture in enumerate(pixels):
        pillow.fromarray(picture).save(tmp_path / f"{n:02}.png")
    weight = random.normal(size=(6, 3, 3, 3)).astype(np.float32)
    nodes = [models.node("Conv", ["x", "w"], ["a"]), models.node("Relu", ["a"], ["y"])]
    model = models.build(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 6, 6, 6]}, {"w": weight})
    fast = {"recipe": "fast", "preprocessing": HOW}
    floats = qcomp.compile(
        model, calibration=tmp_path, config=qcomp.QuantizationConfig(**fast), name="net"
    )
    config = qcomp.QuantizationConfig(**fast, inputs={"*": BYTES})
    bytes_ = qcomp.compile(model, calibration=tmp_path, config=config, name="net")
    assert bytes_.inputs[0].shape == (1, 8, 8, 3)
    x = (pixels / 255.0 - HOW.mean) / HOW.std
    expected = floats(x.transpose(0, 3, 1, 2).astype(np.float32))
    got = bytes_(pixels.astype(np.float32))
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()
    both = qcomp.evaluate(model, bytes_, tmp_path)
    assert min(part.sqnr_db for part in both.outputs) > 25.0
