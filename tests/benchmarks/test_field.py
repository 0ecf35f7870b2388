"""The table of cases has a row for each: the worst part on test data, findings, what is right."""

from __future__ import annotations

from pathlib import Path

import field
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model, one with a model that is refused, and one with many models."""
    root = tmp_path_factory.mktemp("field")
    random = np.random.default_rng(2)
    for folder, op in (("12-dense", "MatMul"), ("13-odd", "Hardmax")):
        (root / folder).mkdir()
        onnx.save(model(op), root / folder / "model.onnx")
        (root / folder / "expect.md").write_text("Thread: x\n\nRight: at least 30 dB\n")
        for stem in ("cal", "test"):
            np.save(root / folder / f"{stem}.npy", random.standard_normal((20, 4)))
    (root / "networks").mkdir()
    onnx.save(model("MatMul"), root / "networks" / "small.onnx")
    np.savez(root / "networks" / "small_cal.npz", x=random.standard_normal((10, 4)))
    (root / "networks" / "README.md").write_text("| file | right |\n| small.onnx | 25 dB |\n")
    return root


def model(op: str) -> onnx.ModelProto:
    weight = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    float_ = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", float_, [1, 4])],
        [helper.make_tensor_value_info("y", float_, [1, 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_every_case_of_the_directory_is_found(directory: Path) -> None:
    found = list(field.cases(directory))
    assert [case.name for case in found] == ["12-dense", "13-odd", "networks/small"]
    assert [case.right for case in found] == ["at least 30 dB"] * 2 + ["25 dB"]
    assert [len(case.test["x"]) for case in found] == [20, 20, 5]


def test_a_row_tells_the_worst_part_the_findings_and_what_is_right(directory: Path) -> None:
    dense, odd, small = (field.examined(case, "fast") for case in field.cases(directory))
    worst, ratio, unit = dense.result.split()
    assert (worst, unit) == ("y:", "dB")
    assert float(ratio) > 15.0
    assert str(dense).endswith(" | none | at least 30 dB |")
    assert small.findings == ("few-samples",)
    assert odd.result.startswith("refused: ")
    assert "Hardmax" in odd.result
