"""The operators: ONNX's own node tests, and random attributes against onnxruntime."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import operators_page
import pytest
from onnx.helper import make_node

from qcomp.errors import UnsupportedOp
from qcomp.frontends.onnx import import_onnx
from qcomp.frontends.onnx.rules import FOLDED_ONLY
from qcomp.ir.evaluate import evaluate

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = range(12)
REFUSALS = (
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    path = ROOT / "benchmarks" / "onnx_node_tests.py"
    spec = importlib.util.spec_from_file_location("onnx_node_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_no_node_test_of_onnx_fails_and_the_page_is_up_to_date(harness: ModuleType) -> None:
    outcomes = [harness.run_test(test) for test in harness.node_tests()]
    failed = [f"{o.test}: {o.reason}" for o in outcomes if o.status == "FAILED"]
    assert failed == []
    assert sum(o.status == "passes" for o in outcomes) > 450
    page = harness.PAGE.read_text(encoding="utf-8")
    assert all(f"| {operator} |" in page for operator in harness.OPERATORS)
    if harness.onnx.__version__ in page:  # another onnx has other tests
        assert harness.page(outcomes) == page
        _expect_page_of_all_operators(outcomes, harness.FUNCTION_BODIES)


def _expect_page_of_all_operators(outcomes: Sequence[Any], bodies: str) -> None:
    """To write it anew: QCOMP_WRITE_DOCS=1."""
    found: dict[str, dict[str, None]] = {}
    for o in outcomes:
        if o.graph is not None and o.operator != bodies and "Add" not in _appended(o):
            found.setdefault(o.operator, {}).update(dict.fromkeys(operators_page.keys(o.graph)))
    page = operators_page.text(found)
    if os.environ.get("QCOMP_WRITE_DOCS"):
        operators_page.PAGE.write_text(page, encoding="utf-8")
    assert operators_page.PAGE.read_text(encoding="utf-8") == page
    assert operators_page.missing(page) == []


def _appended(outcome: Any) -> str:
    """What the harness adds behind operators that are constants."""
    return "Add" if outcome.operator in FOLDED_ONLY else ""


def _compare(model: Any, x: np.ndarray) -> str:
    """ "same", or which of the two refuses; a difference in numbers fails."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        (expected,) = session.run(None, {"x": x})
    except REFUSALS as error:
        return f"onnxruntime refuses: {error}"
    try:
        graph = import_onnx(model).graph
    except UnsupportedOp as error:
        return f"qcomp refuses: {error}"
    (got,) = evaluate(graph, {"x": x}).values()
    assert got.shape == expected.shape
    scale = max(float(np.abs(expected).max()), 1.0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * scale)
    return "same"


def _array(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _window(rng: np.random.Generator, kernel: Sequence[int]) -> dict[str, Any]:
    """Random strides and dilations, and pads or auto_pad."""
    n = len(kernel)
    attributes: dict[str, Any] = {
        "strides": rng.integers(1, 4, n).tolist(),
        "dilations": rng.integers(1, 3, n).tolist(),
    }
    mode = ["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"][rng.integers(5)]
    if mode == "NOTSET":
        attributes["pads"] = rng.integers(0, 3, 2 * n).tolist()
    else:
        attributes["auto_pad"] = mode
    return attributes


@pytest.mark.parametrize("seed", SEEDS)
def test_random_convolutions_agree_with_onnxruntime(onnx_model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    same = 0
    for _ in range(6):
        n = int(rng.integers(1, 3))
        size, kernel = rng.integers(5, 9, n).tolist(), rng.integers(1, 4, n).tolist()
        groups, inputs, outputs = (int(v) for v in rng.integers(1, 4, 3))
        x = _array(rng, 2, groups * inputs, *size)
        constants = {
            "w": _array(rng, groups * outputs, inputs, *kernel),
            "b": _array(rng, groups * outputs),
        }
        node = make_node("Conv", ["x", "w", "b"], ["y"], group=groups, **_window(rng, kernel))
        same += _compare(onnx_model([node], {"x": x.shape}, ["y"], constants), x) == "same"
    assert same > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_random_transposed_convolutions_agree_with_onnxruntime(onnx_model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    same = 0
    for _ in range(6):
        n = int(rng.integers(1, 3))
        size, kernel = rng.integers(3, 7, n).tolist(), rng.integers(1, 5, n).tolist()
        groups, inputs, outputs = (int(v) for v in rng.integers(1, 4, 3))
        x = _array(rng, 2, groups * inputs, *size)
        attributes = _window(rng, kernel)
        if rng.integers(2):
            attributes["output_padding"] = [int(rng.integers(s)) for s in attributes["strides"]]
        elif rng.integers(2):
            attributes.pop("pads", None)
            full = zip(size, attributes["strides"], kernel, attributes["dilations"], strict=True)
            attributes["output_shape"] = [
                (e - 1) * s + (k - 1) * d + 1 - int(rng.integers(3)) for e, s, k, d in full
            ]
            if min(attributes["output_shape"]) < 1:
                continue
        node = make_node("ConvTranspose", ["x", "w"], ["y"], group=groups, **attributes)
        constants = {"w": _array(rng, groups * inputs, outputs, *kernel)}
        same += _compare(onnx_model([node], {"x": x.shape}, ["y"], constants), x) == "same"
    assert same > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_random_pools_agree_with_onnxruntime(onnx_model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    same = 0
    for _ in range(8):
        n = int(rng.integers(1, 3))
        size, kernel = rng.integers(5, 9, n).tolist(), rng.integers(2, 5, n).tolist()
        x = _array(rng, 2, 3, *size)
        attributes = _window(rng, kernel) | {"ceil_mode": int(rng.integers(2))}
        largest = make_node("MaxPool", ["x"], ["y"], kernel_shape=kernel, **attributes)
        attributes["count_include_pad"] = int(rng.integers(2))
        average = make_node("AveragePool", ["x"], ["y"], kernel_shape=kernel, **attributes)
        for node in (largest, average):
            same += _compare(onnx_model([node], {"x": x.shape}, ["y"], opset=19), x) == "same"
    assert same > 0


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
def test_resizes_agree_with_onnxruntime(onnx_model: Any, mode: str, coordinates: str) -> None:
    rng = np.random.default_rng(0)
    for size in ((9, 4), (3, 14), (10, 14)):
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            x = _array(rng, 1, 2, 5, 7)
            node = make_node(
                "Resize",
                ["x", "", "", "sizes"],
                ["y"],
                mode=mode,
                coordinate_transformation_mode=coordinates,
                nearest_mode=rounding,
            )
            constants = {"sizes": np.array([1, 2, *size])}
            assert _compare(onnx_model([node], {"x": x.shape}, ["y"], constants), x) == "same"


def test_a_resize_of_one_axis_goes_through_an_image_of_height_one(onnx_model: Any) -> None:
    x = _array(np.random.default_rng(0), 1, 2, 6)
    node = make_node("Resize", ["x", "", "s"], ["y"], mode="linear")
    model = onnx_model([node], {"x": x.shape}, ["y"], {"s": np.float32([1, 1, 1.5])})
    assert _compare(model, x) == "same"
    assert "resize2d" in str(import_onnx(model).graph)


@pytest.mark.parametrize(
    ("b", "c"),
    [
        ((5, 6), None),
        ((5, 6), (6,)),
        ((5, 6), (1, 6)),
        ((5, 6), (4, 1)),
        ((5, 6), (1,)),
        ((5, 6), (4, 6)),
        ((5, 6), ()),
    ],
)
@pytest.mark.parametrize("beta", [0.0, 1.0, 0.7])
def test_gemm_agrees_with_onnxruntime(
    onnx_model: Any, b: tuple[int, ...], c: tuple[int, ...] | None, beta: float
) -> None:
    rng = np.random.default_rng(0)
    x = _array(rng, 4, 5)
    constants = {"b": _array(rng, *b)} | ({} if c is None else {"c": _array(rng, *c)})
    node = make_node("Gemm", ["x", *constants], ["y"], alpha=0.5, beta=beta)
    assert _compare(onnx_model([node], {"x": x.shape}, ["y"], constants), x) == "same"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4, 5), (5, 6)),
        ((5,), (5, 6)),
        ((3, 4, 5), (5,)),
        ((3, 4, 5), (1, 5, 6)),
        ((4, 5), (3, 5, 6)),
    ],
)
def test_matmul_takes_a_constant_on_either_side(
    onnx_model: Any, a: tuple[int, ...], b: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    left, right = _array(rng, *a), _array(rng, *b)
    node = make_node("MatMul", ["x", "k"], ["y"])
    assert _compare(onnx_model([node], {"x": a}, ["y"], {"k": right}), left) == "same"
    node = make_node("MatMul", ["k", "x"], ["y"])
    assert _compare(onnx_model([node], {"x": b}, ["y"], {"k": left}), right) == "same"


@pytest.mark.parametrize("opset", [7, 12, 13, 17])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_softmax_of_each_opset_agrees_with_onnxruntime(
    onnx_model: Any, operator: str, axis: int, opset: int
) -> None:
    x = _array(np.random.default_rng(0), 2, 3, 4)
    node = make_node(operator, ["x"], ["y"], axis=axis)
    assert _compare(onnx_model([node], {"x": x.shape}, ["y"], opset=opset), x) == "same"


def test_slices_clamp_and_walk_backwards_as_in_onnxruntime(onnx_model: Any) -> None:
    x = _array(np.random.default_rng(0), 5, 6)
    for start, end, step in ((0, 99, 2), (-1, -99, -1), (-3, 6, 1), (4, 0, -2), (99, -99, -3)):
        constants = {"s": [start], "e": [end], "a": [-1], "t": [step]}
        node = make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])
        assert _compare(onnx_model([node], {"x": x.shape}, ["y"], constants), x) == "same"


def test_negative_pads_crop_before_the_padding(onnx_model: Any) -> None:
    x = _array(np.random.default_rng(0), 4, 5)
    node = make_node("Pad", ["x", "p", "v"], ["y"])
    constants = {"p": [-1, 2, 0, -2], "v": np.float32(1.5)}
    assert _compare(onnx_model([node], {"x": x.shape}, ["y"], constants), x) == "same"


def test_batch_norm_of_other_ranks_agrees_with_onnxruntime(onnx_model: Any) -> None:
    rng = np.random.default_rng(0)
    names = ["scale", "B", "mean", "var"]
    constants = {n: np.abs(_array(rng, 3)) + 0.1 for n in names}
    node = make_node("BatchNormalization", ["x", *names], ["y"], epsilon=0.01)
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5)):
        model = onnx_model([node], {"x": shape}, ["y"], constants)
        assert _compare(model, _array(rng, *shape)) == "same"


def test_clip_of_opset_7_reads_attributes(onnx_model: Any) -> None:
    x = 8 * _array(np.random.default_rng(0), 3, 4)
    model = onnx_model(
        [make_node("Clip", ["x"], ["y"], min=0.0, max=6.0)], {"x": x.shape}, ["y"], opset=7
    )
    assert _compare(model, x) == "same"
    assert "clamp=ClampRange(low=0.0, high=6.0)" in str(import_onnx(model).graph)


def test_max_with_a_scalar_is_a_clamp(onnx_model: Any) -> None:
    model = onnx_model(
        [make_node("Max", ["x", "zero"], ["y"])], {"x": [2, 3]}, ["y"], {"zero": np.float32(0)}
    )
    assert "%y = clamp(%x) {clamp=ClampRange(low=0.0, high=inf)}" in str(import_onnx(model).graph)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (make_node("LayerNormalization", ["x", "w"], ["y"], name="ln"), "LayerNormalization"),
        (make_node("LRN", ["x"], ["y"], size=3), "LRN"),
        (make_node("Tan", ["x"], ["y"]), "Tan"),
        (make_node("Det", ["x"], ["y"]), "Det"),
        (make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], storage_order=1), "storage_order"),
        (make_node("Pow", ["w", "x"], ["y"]), "the exponent must be a constant"),
        (make_node("Conv", ["x", "x"], ["y"]), "the weight must be a constant"),
        (make_node("MaxPool", ["x"], ["y"], kernel_shape=[9, 9]), "kernel extent 9"),
        (make_node("MaxPool", ["x"], ["y"], kernel_shape=[2048, 2048]), "window of 4194304 pos"),
        (
            make_node("MaxPool", ["x"], ["y"], kernel_shape=[9, 9], pads=[99999] * 4),
            "padded to 40000800004 positions",
        ),
        (make_node("Relu", ["x"], ["y"], alpha=1.0), "attribute alpha is unknown"),
    ],
)
def test_what_is_not_taken_is_refused_with_its_reason(
    onnx_model: Any, node: Any, reason: str
) -> None:
    model = onnx_model([node], {"x": [1, 2, 4, 4]}, ["y"], {"w": np.ones(2, np.float32)})
    with pytest.raises(UnsupportedOp, match=reason) as caught:
        import_onnx(model)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{node.op_type} node '{node.name or 'y'}': ")
