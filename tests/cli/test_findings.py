"""The report ends with findings, and --strict makes them an error that writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

Command = Callable[..., Any]


def dense() -> onnx.ModelProto:
    """Boxes of some hundreds beside scores of one, from one layer."""
    random = np.random.default_rng(9)
    weight = random.standard_normal((8, 6)).astype(np.float32)
    weight[:, :3] *= 300.0
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("findings")
    onnx.save(dense(), folder / "dense.onnx")
    data = np.random.default_rng(1).standard_normal((32, 8))
    np.save(folder / "data.npy", data.astype(np.float32))
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strict"], "qcomp: error: 1 findings that are refused:"),
        (["--min-sqnr-db", "15"], "y[:, 3:6]: "),
    ],
)
def test_what_is_refused_ends_with_status_2_and_writes_nothing(
    qcomp_command: Command, files: Path, options: list[str], said: str
) -> None:
    out = files / "refused"
    arguments = [files / "dense.onnx", "-o", out, "--calibration", files / "data.npy"]
    outcome = qcomp_command("compile", *arguments, "--recipe", "fast", *options)
    assert outcome.status == 2
    assert said in outcome.err
    assert not out.exists()


def test_the_report_has_a_line_for_each_part_and_each_finding(
    qcomp_command: Command, files: Path
) -> None:
    arguments = [files / "dense.onnx", "-o", files / "out", "--calibration", files / "data.npy"]
    outcome = qcomp_command("compile", *arguments, "--recipe", "fast")
    assert outcome.status == 0
    assert "  sqnr     y[:, 0:3]: " in outcome.out
    assert "  sqnr     y[:, 3:6]: " in outcome.out
    assert "qcomp: warning: y[:, 3:6]: " in outcome.err
    accepted = qcomp_command("compile", *arguments, "--recipe", "fast", "--min-sqnr-db", "-5")
    assert accepted.status == 0
    assert ", under " not in accepted.err
