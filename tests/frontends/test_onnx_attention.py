"""Attention in one node, of ONNX and of ONNX Runtime, is what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from qcomp.errors import UnsupportedOp
from qcomp.execute.session import FloatSession
from qcomp.frontends import import_model
from qcomp.ir.ops import Attention
from qcomp.passes.base import PassManager
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.fold_constants import FoldConstants
from qcomp.passes.recompose_attention import RecomposeAttention

Array = NDArray[Any]
B, S, T, H, D = 2, 5, 7, 4, 8
WIDTH = H * D
RANDOM = np.random.default_rng(0)
BIAS = RANDOM.normal(size=3 * WIDTH).astype(np.float32)
WEIGHT = (RANDOM.normal(size=(WIDTH, 3 * WIDTH)) * 0.3).astype(np.float32)
PADDING = np.array([[1, 1, 1, 0, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0]], np.int32)


def model(
    op: str,
    inputs: dict[str, Array | None],
    constants: dict[str, Array],
    outputs: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """A node of com.microsoft; operands in their order, None for one that is left out."""
    names = [n if inputs.get(n, constants.get(n)) is not None else "" for n in (*inputs,)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for n, x in inputs.items()
            if x is not None and n not in constants
        ],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in results],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def x(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


QKV = {"q": x(B, S, WIDTH), "k": x(B, T, WIDTH), "v": x(B, T, WIDTH)}
CASES: dict[str, tuple[str, dict[str, Array | None], dict[str, Array], dict[str, Any]]] = {
    "plain": ("MultiHeadAttention", dict(QKV), {}, {}),
    "bias": ("MultiHeadAttention", {**QKV, "b": BIAS}, {"b": BIAS}, {}),
    "scale": ("MultiHeadAttention", dict(QKV), {}, {"scale": 0.2}),
    "padding": ("MultiHeadAttention", {**QKV, "b": None, "m": PADDING}, {}, {}),
    "attention bias": (
        "MultiHeadAttention",
        {**QKV, "b": None, "m": None, "a": x(1, H, S, T)},
        {},
        {},
    ),
    "packed": (
        "Attention",
        {"x": x(B, T, WIDTH), "w": WEIGHT, "b": BIAS},
        {"w": WEIGHT, "b": BIAS},
        {},
    ),
    "packed, one direction": (
        "Attention",
        {"x": x(B, T, WIDTH), "w": WEIGHT, "b": BIAS},
        {"w": WEIGHT, "b": BIAS},
        {"unidirectional": 1},
    ),
    "packed, padding": (
        "Attention",
        {"x": x(B, T, WIDTH), "w": WEIGHT, "b": BIAS, "m": PADDING},
        {"w": WEIGHT, "b": BIAS},
        {},
    ),
}


@pytest.mark.parametrize(("op", "inputs", "constants", "attributes"), CASES.values(), ids=CASES)
def test_what_onnx_runtime_fused(
    op: str,
    inputs: dict[str, Array | None],
    constants: dict[str, Array],
    attributes: dict[str, Any],
) -> None:
    made = model(op, inputs, constants, num_heads=H, **attributes)
    run = {n: a for n, a in inputs.items() if a is not None and n not in constants}
    session = onnxruntime.InferenceSession(made.SerializeToString())
    (expected,) = session.run(None, run)
    graph = import_model(made).graph
    floats = {n: a.astype(np.float32) for n, a in run.items()}
    assert_allclose(FloatSession(graph).run(floats)["y0"], expected, rtol=1e-4, atol=1e-5)
    passes = [FoldConstants(), RecomposeAttention(), CanonicalizeLayout()]
    ops = PassManager().run(graph.clone(), passes).ops()
    assert sum(isinstance(op, Attention) for op in ops) == 1


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        (dict.fromkeys("q"), 1, "packed"),
        ({**QKV, "b": None, "m": PADDING[:, :3]}, 1, r"a mask of shape \(2, 3\)"),
        (dict(QKV), 2, "keys and values are results"),
    ],
)
def test_what_is_refused(inputs: dict[str, Array | None], outputs: int, reason: str) -> None:
    inputs = {n: QKV["q"] if n == "q" else a for n, a in inputs.items()}
    with pytest.raises(UnsupportedOp, match=rf"MultiHeadAttention node .*{reason}"):
        import_model(model("MultiHeadAttention", inputs, {}, outputs, num_heads=H))


@pytest.mark.parametrize(
    ("q", "k", "past", "reason"),
    [
        ([2, 3, 8], [2, 3], None, r"q, k and v of shapes \[.*; accepted: 3 axes of each, or 4"),
        ([2], [2], None, "accepted: 3 axes of each, or 4"),
        ([1, 2, 3, 4], [1, 2, 3, 4], [2], r"a past of shape \(2,\); accepted: 4 axes"),
    ],
)
def test_an_attention_of_other_ranks_is_refused(
    onnx_model: Any, q: list[int], k: list[int], past: list[int] | None, reason: str
) -> None:
    inputs = {"q": q, "k": k, "v": k, **({"p": past, "r": past} if past else {})}
    read = ["q", "k", "v", "", "p", "r"] if past else ["q", "k", "v"]
    node = onnx.helper.make_node("Attention", read, ["y"], q_num_heads=2, kv_num_heads=2)
    with pytest.raises(UnsupportedOp, match=reason):
        import_model(onnx_model([node], inputs, ["y"], opset=23))
