"""The float passes on real networks: what is left, and that the function is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.calibration.moments import measured_moments
from qcomp.frontends.onnx import import_onnx
from qcomp.ir.evaluate import evaluate
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import RELU6, BatchNorm, Clamp, Conv2d, Function, Unary
from qcomp.passes.base import PassManager
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer
from qcomp.passes.fold_batch_norm import FoldBatchNorm
from qcomp.passes.fold_constants import FoldConstants
from qcomp.passes.fuse_activation import FuseActivation
from qcomp.passes.lib.quantization_noise import Precision
from qcomp.passes.recompose_activations import RecomposeActivations

pytestmark = pytest.mark.zoo


def folded(model: Path) -> tuple[Graph, Graph, PassManager]:
    """The graph as imported, after the float passes but equalization, and their records."""
    before = import_onnx(model).graph
    manager = PassManager()
    after = manager.begin(before, Form.FLOAT)
    passes = [
        CanonicalizeLayout(),
        FoldConstants(),
        RecomposeActivations(),
        FoldBatchNorm(),
        FuseActivation(),
    ]
    return before, manager.run(after, passes), manager


def assert_same_function(before: Graph, after: Graph, rtol: float = 1e-5) -> None:
    rng = np.random.default_rng(0)
    x = {
        name: rng.uniform(-1, 1, before.type(t).shape).astype(np.float32)
        for name, t in before.inputs.items()
    }
    expected = evaluate(before, x)
    for name, y in evaluate(after, x).items():
        assert_allclose(y, expected[name], rtol=rtol, atol=rtol * np.abs(expected[name]).max())


@pytest.mark.parametrize(
    ("model", "batch_norms"),
    [("mobilenetv1_025_224_bn", 27), ("resnet20_cifar10_bn", 19), ("mnist-8", 0)],
)
def test_all_batch_norms_and_clamps_fold(zoo: Path, model: str, batch_norms: int) -> None:
    before, after, manager = folded(zoo / "models" / f"{model}.onnx")
    assert sum(isinstance(op, BatchNorm) for op in before.ops()) == batch_norms
    convolutions = sum(isinstance(op, Conv2d) for op in before.ops())
    assert sum(isinstance(op, Conv2d) for op in after.ops()) == convolutions
    assert not [op for op in after.ops() if isinstance(op, BatchNorm | Clamp)]
    assert sum(t.normal is not None for t in after.tensors()) == batch_norms
    assert [r.log.count("skip") for r in manager.records[2:]] == [0, 0, 0]
    assert_same_function(before, after)


@pytest.mark.slow
def test_mobilenet_v2_equalizes_to_the_same_function(zoo: Path) -> None:
    before, after, manager = folded(zoo / "models" / "mobilenetv2_tf.onnx")
    clamps = [op for op in after.ops() if isinstance(op, Conv2d) and op.clamp == RELU6]
    assert len(clamps) == 35
    random = np.random.default_rng(0)
    image = {n: random.normal(size=after.type(t).shape) for n, t in after.inputs.items()}
    samples = [{n: x.astype(np.float32) for n, x in image.items()}]
    equalizer = EqualizeCrossLayer(lambda g: measured_moments(g, samples), Precision())
    manager.run(after, [equalizer])
    assert_same_function(before, after, rtol=1e-4)
    assert "dead channels become constants" in manager.records[-1].log.text


def test_yolox_nano_gets_its_silu_back(zoo: Path) -> None:
    before, after, _ = folded(zoo / "models" / "yolox_nano.onnx")
    sigmoids = [op for op in before.ops() if getattr(op, "function", None) is Function.SIGMOID]
    silus = [op for op in after.ops() if isinstance(op, Unary) and op.function is Function.SILU]
    assert len(silus) > 60
    assert len(sigmoids) > len(silus)
    assert_same_function(before, after, rtol=1e-4)
