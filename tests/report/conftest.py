"""Small networks, compiled once, and their pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compiled_once import CompiledOnce
from onnx import TensorProto, helper, numpy_helper
from pages import EVIL

import qcomp


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> CompiledOnce:
    return CompiledOnce(tmp_path_factory)


@pytest.fixture(scope="session")
def digits(examples: Path) -> Any:
    data = np.load(examples / "digits_calibration.npz")["image"]
    return qcomp.compile(examples / "digits.onnx", calibration=data, recipe="fast")


@pytest.fixture(scope="session")
def page(digits: Any, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all that can be measured; labels are wrong for some."""
    test = np.load(examples / "digits_test.npz")
    images, labels = (test[name] for name in sorted(test.files))
    if images.ndim < labels.ndim:
        images, labels = labels, images
    return digits.report(
        tmp_path_factory.mktemp("page") / "digits.html",
        model=examples / "digits.onnx",
        calibration=np.load(examples / "digits_calibration.npz")["image"],
        data=images[:60],
        labels=labels[:60],
        count=60,
        bench=0.02,
    )


def evil_model() -> onnx.ModelProto:
    """Every name is markup."""
    random = np.random.default_rng(0)
    weights = {
        f"w{EVIL}": random.normal(size=(4, 2, 3, 3)).astype(np.float32),
        f"d{EVIL}": random.normal(size=(36, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", [f"x{EVIL}", f"w{EVIL}"], [f"c{EVIL}"], f"conv{EVIL}"),
        helper.make_node("Flatten", [f"c{EVIL}"], [f"f{EVIL}"], f"flat{EVIL}"),
        helper.make_node("MatMul", [f"f{EVIL}", f"d{EVIL}"], [f"y{EVIL}"], f"dense{EVIL}"),
    ]
    graph = helper.make_graph(
        nodes,
        f"graph{EVIL}",
        [helper.make_tensor_value_info(f"x{EVIL}", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info(f"y{EVIL}", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture(scope="session")
def evil_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evil")
    data = [np.random.default_rng(i).normal(size=(1, 2, 5, 5)).astype(np.float32) for i in range(4)]
    model = evil_model()
    net = qcomp.compile(model, calibration=data, recipe="fast", name="evil")
    (folder / "classes.txt").write_text(f"<b>{EVIL}\n<i>\nthree\n")
    return net.report(
        folder / "evil.html",
        model=model,
        calibration=data,
        data=data,
        labels=[0, 1, 2, 0],
        classes=folder / "classes.txt",
    )
