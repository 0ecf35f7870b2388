"""The shortest way from a float network to an integer one: compile, call, save, load."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import qcomp

HERE = Path(__file__).resolve().parent

with np.load(HERE / "digits_test.npz") as data:
    images, labels = data["images"], data["labels"]

net = qcomp.compile(HERE / "digits.onnx", calibration=HERE / "digits_calibration.npz")
logits = net(images)
print(f"top-1 of the integer code: {np.mean(logits.argmax(1) == labels):.4f}")

np.testing.assert_array_equal(logits[:50], net.specification(images[:50]))
print("library and specification agree in every bit of 50 images")

net.save("build/quickstart")
again = qcomp.load("build/quickstart")
np.testing.assert_array_equal(again(images), logits)
print("saved to build/quickstart and loaded again: the same answers")
