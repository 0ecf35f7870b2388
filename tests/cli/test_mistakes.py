"""A user's mistake gives status 2, one message on standard error, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from limited_files import limited_files
from onnx import TensorProto, helper

Command = Callable[..., Any]

FAST = ("--recipe", "fast")  # the mistake is found after the compilation


@pytest.fixture
def model(examples: Path, tmp_path: Path) -> Path:
    """A copy of the digits network that a test may spoil."""
    return Path(shutil.copy(examples / "digits.onnx", tmp_path / "model.onnx"))


@pytest.fixture
def fails(qcomp_command: Command, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail as a user's mistake does; its message."""

    def run(*args: str | Path) -> str:
        before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")}
        outcome = qcomp_command(*args)
        assert outcome.status == 2, outcome
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        assert outcome.err.strip()
        after = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")}
        assert after == before, "something was left behind"
        return str(outcome.err)

    return run


def save(path: Path, nodes: list[onnx.NodeProto], shape: list[Any] | None = None) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("command", [["inspect"], ["compile", "-o", "unused"]])
def test_a_missing_model(command: list[str], fails: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere.onnx" in fails(*command, tmp_path / "nowhere.onnx")


@pytest.mark.parametrize("size", [0, 1, 100, 20000])
def test_a_truncated_model(size: int, fails: Callable[..., str], model: Path) -> None:
    model.write_bytes(model.read_bytes()[:size])
    assert "model.onnx" in fails("compile", model, "-o", model.parent / "out")


def test_a_file_that_is_no_onnx_model(fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no network\n" * 100)
    assert "text.onnx" in fails("compile", tmp_path / "text.onnx", "-o", tmp_path / "out")


def test_a_directory_in_place_of_a_model(fails: Callable[..., str], tmp_path: Path) -> None:
    fails("compile", tmp_path, "-o", tmp_path / "out")


def test_all_unsupported_operators_are_listed_at_once(
    fails: Callable[..., str], tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["d"], name="first_det"),
        helper.make_node("NonZero", ["x"], ["n"], name="then_nonzero"),
        helper.make_node("Det", ["x"], ["y"], name="last_det"),
    ]
    path = save(tmp_path / "odd.onnx", nodes, [4, 4])
    message = fails("compile", path, "-o", tmp_path / "out")
    for name in ("Det node 'first_det'", "NonZero node 'then_nonzero'", "Det node 'last_det'"):
        assert name in message


def test_inspect_lists_what_would_be_refused(qcomp_command: Command, tmp_path: Path) -> None:
    path = save(tmp_path / "odd.onnx", [helper.make_node("Det", ["x"], ["y"], name="d")], [4, 4])
    outcome = qcomp_command("inspect", path)
    assert outcome.status == 0
    assert "would be refused" in outcome.out
    assert "Det node 'd'" in outcome.out


@pytest.mark.parametrize("text", ["N", "N=", "=1", "N=x", "N=0", "N=-1", "N=1.5"])
def test_a_malformed_binding(text: str, fails: Callable[..., str], model: Path) -> None:
    assert "N=1" in fails("compile", model, "-o", model.parent / "out", "--bind", text)


@pytest.mark.parametrize("text", ["low", "low=", "=1", "low=x", "low=nan", "low=inf"])
def test_a_malformed_value(text: str, fails: Callable[..., str], model: Path) -> None:
    message = fails("compile", model, "-o", model.parent / "out", "--bind-value", text)
    assert "NAME=NUMBER, as in fmin=46.9" in message


def test_a_value_for_no_input_is_named(fails: Callable[..., str], model: Path) -> None:
    assert "no input is named 'low'" in fails("inspect", model, "--bind-value", "low=1")


def test_a_dynamic_dimension_without_binding_is_named(
    fails: Callable[..., str], tmp_path: Path
) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [1, "width"])
    assert "width" in fails("compile", path, "-o", tmp_path / "out")


def test_an_unknown_range_method(fails: Callable[..., str], model: Path) -> None:
    message = fails("compile", model, "-o", model.parent / "out", "--range", "best")
    for accepted in ("mse", "minmax", "percentile", "ema"):
        assert accepted in message


def test_an_unknown_target(fails: Callable[..., str], model: Path) -> None:
    message = fails("compile", model, "-o", model.parent / "out", "--target", "z80")
    assert "z80" in message
    assert "native" in message


def test_no_output_directory(fails: Callable[..., str], model: Path) -> None:
    assert "-o" in fails("compile", model)


def test_no_calibration_data_and_no_batch_norm(fails: Callable[..., str], tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    assert "calibration" in fails("compile", path, "-o", tmp_path / "out")


BAD_DATA = {
    "a wrong shape": np.zeros((4, 1, 8, 9), np.float32),
    "a wrong type": np.zeros((4, 1, 8, 8), np.complex64),
    "a NaN": np.full((4, 1, 8, 8), np.nan, np.float32),
    "an infinity": np.full((4, 1, 8, 8), np.inf, np.float32),
    "no sample": np.zeros((0, 1, 8, 8), np.float32),
    "strings": np.array(["a"]),
}


@pytest.mark.parametrize("data", BAD_DATA.values(), ids=BAD_DATA.keys())
def test_calibration_data_that_does_not_fit(
    data: np.ndarray[Any, Any], fails: Callable[..., str], model: Path
) -> None:
    path = model.parent / "data.npy"
    np.save(path, data)
    assert "data.npy" in fails("compile", model, "-o", model.parent / "o", "--calibration", path)


def test_calibration_data_that_can_not_be_read(fails: Callable[..., str], model: Path) -> None:
    where = ["-o", model.parent / "out", "--calibration"]
    assert "nowhere" in fails("compile", model, *where, model.parent / "nowhere")
    empty = model.parent / "empty"
    empty.mkdir()
    assert "empty" in fails("compile", model, *where, empty)
    text = model.parent / "text.npy"
    text.write_text("no array")
    assert "text.npy" in fails("compile", model, *where, text)
    pickled = model.parent / "pickle.npy"
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    assert "pickle.npy" in fails("compile", model, *where, pickled)


def test_an_output_below_a_file(fails: Callable[..., str], model: Path, calibration: Path) -> None:
    message = fails("compile", model, "-o", model / "out", "--calibration", calibration, *FAST)
    assert "can't write" in message


def test_an_output_that_is_a_file(
    fails: Callable[..., str], model: Path, calibration: Path
) -> None:
    message = fails("compile", model, "-o", model, "--calibration", calibration, *FAST)
    assert "can't write" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_without_permission(
    fails: Callable[..., str], model: Path, calibration: Path
) -> None:
    closed = model.parent / "closed"
    closed.mkdir(mode=0o500)
    assert "can't write" in fails(
        "compile", model, "-o", closed / "out", "--calibration", calibration
    )


def test_a_disk_that_fills_while_the_library_is_written(
    fails: Callable[..., str], qcomp_command: Command, model: Path
) -> None:
    assert qcomp_command("compile", model, "-o", model.parent / "fits").status == 0
    for limit in (1000, 8000, 27000):
        with limited_files(limit):
            message = fails("compile", model, "-o", model.parent / "new" / "out")
        assert "can't" in message


def test_an_answer_that_can_not_be_written(
    fails: Callable[..., str], digits: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", np.zeros((1, 1, 8, 8), np.float32))
    out = tmp_path / "in.npy" / "out.npy"
    assert "can't write" in fails("run", digits, tmp_path / "in.npy", "-o", out)


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_a_directory_that_compile_did_not_write(
    command: str, fails: Callable[..., str], tmp_path: Path
) -> None:
    fails(command, tmp_path)
    assert "nowhere" in fails(command, tmp_path / "nowhere")


def test_a_library_that_was_changed(
    fails: Callable[..., str], digits: Path, tmp_path: Path
) -> None:
    spoiled = Path(shutil.copytree(digits, tmp_path / "digits"))
    library = spoiled / "libdigits.so"
    library.write_bytes(library.read_bytes() + b"\0")
    assert "libdigits.so" in fails("verify", spoiled)


def test_a_manifest_that_is_no_manifest(
    fails: Callable[..., str], digits: Path, tmp_path: Path
) -> None:
    spoiled = Path(shutil.copytree(digits, tmp_path / "digits"))
    for text in ("", "[]", "{}", json.dumps({"version": 1})):
        (spoiled / "digits.manifest.json").write_text(text)
        assert "digits.manifest.json" in fails("verify", spoiled)


def test_run_input_that_does_not_fit(
    fails: Callable[..., str], digits: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "in.npy", tmp_path / "out.npy"
    for wrong in (np.zeros((1, 1, 8, 9), np.float32), np.zeros(3, np.float32), np.array(["a"])):
        np.save(path, wrong)
        assert "in.npy" in fails("run", digits, path, "-o", out)
    path.write_bytes(b"\x93NUMPY nonsense")
    assert "in.npy" in fails("run", digits, path, "-o", out)
    np.savez(tmp_path / "in.npz", picture=np.zeros((1, 1, 8, 8), np.float32))
    assert "picture" in fails("run", digits, tmp_path / "in.npz", "-o", out)
    assert "nowhere.npy" in fails("run", digits, tmp_path / "nowhere.npy", "-o", out)
