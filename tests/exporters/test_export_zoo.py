"""Real networks: the export runs to the original's answers, and evaluate agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from qcomp.execute.session import FloatSession
from qcomp.frontends.onnx import import_onnx
from qcomp.ir.evaluate import evaluate

TOLERANCE = 1e-4


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name", ["mobilenetv2_tf", "squeezenet1_1", "yolox_nano", "fastestdet", "resnet20_cifar10_bn"]
)
def test_original_export_and_meaning_agree_on(name: str, zoo: Path) -> None:
    path = zoo / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"no {path}")
    graph = import_onnx(path).graph
    original = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {
        public: rng.normal(size=graph.type(id).shape).astype(np.float32)
        for public, id in graph.inputs.items()
    }
    names = [i.name for i in original.get_inputs()]
    wanted = original.run(None, dict(zip(names, inputs.values(), strict=True)))
    exported = FloatSession(graph, threads=1).run(inputs)
    meaning = evaluate(graph, inputs)
    assert len(wanted) == len(exported) == len(meaning)
    for (public, got), expected in zip(exported.items(), wanted, strict=True):
        bound = TOLERANCE * float(np.abs(expected).max())
        assert np.abs(got - expected).max() <= bound
        assert np.abs(meaning[public] - expected).max() <= bound
