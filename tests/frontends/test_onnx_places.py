"""Gathering from, and scattering to, places that are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from onnx import TensorProto, helper

import qcomp
from qcomp.errors import UnsupportedOp
from qcomp.execute.session import FloatSession
from qcomp.frontends import import_model

Array = NDArray[Any]


def model(
    op: str, data: tuple[int, ...], indices: tuple[int, ...], updates: bool, **attributes: Any
) -> onnx.ModelProto:
    names = ["x", "i", "u"][: 3 if updates else 2]
    types = {
        "x": (1, data),
        "i": (TensorProto.INT64, indices),
        "u": (1, updates_of(op, data, indices)),
    }
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], "node", **attributes)],
        "g",
        [helper.make_tensor_value_info(n, *types[n]) for n in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def updates_of(op: str, data: tuple[int, ...], indices: tuple[int, ...]) -> tuple[int, ...]:
    return indices if op == "ScatterElements" else (*indices[:-1], *data[1:])


CASES = [
    ("Gather", (5, 3), (2, 4), {}),
    ("Gather", (2, 5, 3), (4,), {"axis": 1}),
    ("Gather", (2, 3, 5), (), {"axis": -1}),
    ("Gather", (2, 3, 5), (1, 2), {"axis": 2}),
    ("GatherND", (5, 3), (2, 1), {}),
    ("GatherND", (2, 5, 3), (2, 1), {"batch_dims": 1}),
    ("GatherND", (2, 3, 5), (2, 3, 4, 1), {"batch_dims": 2}),
    ("ScatterElements", (2, 5, 3), (2, 1, 3), {"axis": 1}),
    ("ScatterElements", (2, 5), (2, 1), {"axis": -1}),
    ("ScatterElements", (5, 2), (1, 2), {}),
    ("ScatterND", (5, 3), (1, 1), {}),
    ("ScatterND", (5, 2, 3), (1,), {}),
]


@pytest.mark.parametrize(("op", "data", "indices", "attributes"), CASES)
def test_what_onnx_runtime_does(
    op: str, data: tuple[int, ...], indices: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    random = np.random.default_rng(0)
    updates = op.startswith("Scatter")
    made = model(op, data, indices, updates, **attributes)
    run = {
        "x": random.normal(size=data).astype(np.float32),
        "i": random.integers(-5, 5, indices),
        "u": random.normal(size=updates_of(op, data, indices)).astype(np.float32),
    }
    run = {n: a for n, a in run.items() if n != "u" or updates}
    session = onnxruntime.InferenceSession(made.SerializeToString())
    (expected,) = session.run(None, run)
    floats = {n: a.astype(np.float32) for n, a in run.items()}
    got = FloatSession(import_model(made).graph).run(floats)["y"]
    assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("op", "data", "indices", "attributes", "reason"),
    [
        ("GatherND", (5, 3), (2, 2), {}, "indices .2, 2. are computed"),
        ("Gather", (2000, 3), (2,), {}, "places of 2000 are computed"),
        ("ScatterElements", (2, 5), (2, 2), {"axis": 1}, "indices .2, 2. for .2, 5. are computed"),
        ("ScatterElements", (2, 5), (2, 1), {"axis": 1, "reduction": "add"}, "a reduction"),
        ("ScatterND", (5, 3), (2, 1), {}, "indices .2, 1. for .5, 3. are computed"),
    ],
)
def test_what_is_refused(
    op: str, data: tuple[int, ...], indices: tuple[int, ...], attributes: Any, reason: str
) -> None:
    made = model(op, data, indices, op.startswith("Scatter"), **attributes)
    with pytest.raises(UnsupportedOp, match=rf"{op} node 'node': .*{reason}"):
        import_model(made)


def test_a_place_that_is_none_is_refused_before_anything_is_written() -> None:
    random = np.random.default_rng(0)
    made = model("ScatterElements", (1, 6, 4), (1, 1, 4), True, axis=1)

    def sample(place: int) -> dict[str, Array]:
        x, u = (random.uniform(-1, 1, s).astype(np.float32) for s in ((1, 6, 4), (1, 1, 4)))
        return {"x": x, "i": np.full((1, 1, 4), place), "u": u}

    net = qcomp.compile(made, calibration=[sample(n % 6) for n in range(16)], recipe="fast")
    for place in (0, 5, -6, -1):
        run = sample(place)
        expected = run["x"].copy()
        expected[:, place] = run["u"][:, 0]
        assert np.abs(net(run)["y"] - expected).max() < 0.04
    for place in (6, -7):
        with pytest.raises(ValueError, match="i"):
            net(sample(place))
