"""With arithmetic="tflite" no integer differs from what LiteRT's reference kernels give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_cases import EXACT, LACKING, ONE_SCALE, REFUSED, operator_of
from numpy.testing import assert_array_equal
from operator_cases import BOTH, Net, conv, unary
from random_nets import RandomNet
from tflite_models import reference

import qcomp
from qcomp.calibration.evidence import Evidence
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError, PassError
from qcomp.frontends import import_model
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.quantizer import Quantizer
from qcomp.recipes.file import read_recipe, recipe_text
from qcomp.recipes.named import settled

TFLITE = QuantizationConfig(arithmetic="tflite")
FEW, MANY = 1, 200
"""Sets of parameters of each operator and type."""

TYPES = (np.int8, np.uint8, np.int16)


def net_of(name: str, dtype: Any, seed: int) -> RandomNet:
    one_scale = name in ONE_SCALE and (name, dtype) != ("CONCATENATION", np.uint8)
    net = RandomNet(dtype, rng=np.random.default_rng(seed), one_scale=one_scale)
    EXACT[name](net)
    return net


def lowered(model: bytes, config: QuantizationConfig = TFLITE) -> Graph:
    imported = import_model(model)
    quantizer = Quantizer(imported.graph, imported.form, Evidence(None, (-1.0, 1.0)))
    return quantizer.integer(settled(config, calibrated=False))


def stored(feed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As qcomp has it: bytes without a sign are 128 less."""
    return (feed.astype(np.int16) - 128).astype(np.int8) if feed.dtype == np.uint8 else feed


def compare(name: str, dtype: Any, seed: int) -> None:
    """All results of one set of parameters, on one random input."""
    net = net_of(name, dtype, seed)
    graph, feeds = lowered(net.model), net.feeds()
    given = {n: stored(f) for n, f in zip(graph.inputs, feeds, strict=True)}
    ours = evaluate(graph, given)
    for mine, theirs in zip(ours.values(), reference(net.model, *feeds), strict=True):
        assert_array_equal(mine, stored(theirs))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", EXACT)
def test_integers(name: str, dtype: Any, request: pytest.FixtureRequest) -> None:
    """With --slow 200 sets of parameters."""
    what = operator_of(name), np.dtype(dtype).name
    if reason := LACKING.get(what):
        pytest.skip(reason)
    if reason := REFUSED.get(what):
        with pytest.raises(PassError, match=reason):
            lowered(net_of(name, dtype, 0).model)
        return
    for seed in range(MANY if request.config.getoption("--slow") else FEW):
        compare(name, dtype, seed)


@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_integers_of_another_type(dtype: Any, to: Any) -> None:
    if (dtype, to) == (np.int16, np.uint8):
        pytest.skip("LiteRT has no such kernel")
    net = RandomNet(dtype, rng=np.random.default_rng(5))
    x = net.x(2, 99)
    net.dtype = to
    net.op("QUANTIZE", [x], net.y(2, 99, low=-3.0, high=3.0))
    net.dtype = dtype
    graph, feeds = lowered(net.model), net.feeds()
    (ours,) = evaluate(graph, {"x0": stored(feeds[0])}).values()
    assert_array_equal(ours, stored(reference(net.model, *feeds)[0]))


def test_operands_that_are_copied_to_another_scale_are_refused() -> None:
    net = RandomNet(np.int8, rng=np.random.default_rng(5))
    BOTH["PACK"](net)
    with pytest.raises(PassError, match=r"%x1.* has another scale than %.*expected one scale"):
        lowered(net.model)


LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@pytest.mark.parametrize(
    ("dtype", "names"),
    [
        (np.int8, (*LAYERS, "ADD", "AVERAGE_POOL_2D", "HARD_SWISH", "MEAN", "MUL", "PRELU",
                   "RESIZE_BILINEAR", "SOFTMAX", "SUB")),
        (np.uint8, (*LAYERS, "AVERAGE_POOL_2D")),
        (np.int16, ("CONV_2D", "DEPTHWISE_CONV_2D", "LOGISTIC", "RELU", "RESIZE_BILINEAR")),
    ],
)  # fmt: skip
def test_kernels_have_the_same_bits(dtype: Any, names: tuple[str, ...]) -> None:
    for name in names:
        net = net_of(name, dtype, 7)
        compiled = qcomp.compile(net.model, "avx2", config=TFLITE, name="net")
        feeds = net.feeds()
        given = tuple(map(stored, feeds))
        ours = compiled.run_integer(given[0] if len(given) == 1 else given)
        assert_array_equal(ours, stored(reference(net.model, *feeds)[0]))


def test_default_arithmetic_is_another() -> None:
    """Both of what is rounded twice, and of what is rounded once."""
    net = RandomNet(np.int8, rng=np.random.default_rng(3))
    conv(0)(net)
    imported = import_model(net.model)
    quantizer = Quantizer(imported.graph, imported.form, Evidence(None, (-1.0, 1.0)))
    native = str(quantizer.integer(settled(QuantizationConfig(), calibrated=False)))
    assert "form=narrow" in native
    assert "form=tflite" not in native
    assert "form=tflite" in str(quantizer.integer(settled(TFLITE, calibrated=False)))


def test_a_recipe_has_the_arithmetic(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(TFLITE), encoding="utf-8")
    assert read_recipe(path).arithmetic == "tflite"
    with pytest.raises(CompileError, match="arithmetic='lite': expected one of 'native', 'tflite'"):
        QuantizationConfig(arithmetic="lite")


def test_floats_have_no_such_arithmetic() -> None:
    net = Net()
    BOTH["ADD"](net)
    with pytest.raises(CompileError, match=r"arithmetic='tflite': the model comes in form float; "
                       "expected a TFLite file whose activations are integers"):  # fmt: skip
        qcomp.compile(net.model, "avx2", config=TFLITE)


def test_a_function_without_such_arithmetic_is_refused_by_name() -> None:
    net = Net(np.int8)
    unary("SIN")(net)
    with pytest.raises(PassError, match=r"y0: sin of 8 bits has no arithmetic of TensorFlow Lite"):
        lowered(net.model)
