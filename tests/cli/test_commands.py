"""Each command does what the README says, on the digits network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import qcomp

Command = Callable[..., Any]

FILES = {
    "libdigits.a",
    "libdigits.so",
    "digits.h",
    "digits.manifest.json",
    "digits.recipe.yaml",
    "digits.vectors.npz",
    "digits.graph.txt",
    "digits.constants.npz",
    "libdigits.so.1",
    "digitsConfig.cmake",
    "digitsConfigVersion.cmake",
    "digits.pc",
    "digits_example.c",
    "digits.py",
    "digits.qdq.txt",
    "digits.qdq.npz",
    "digits.passes.json.gz",
}


@pytest.fixture
def model(examples: Path) -> Path:
    return examples / "digits.onnx"


@pytest.fixture
def images(examples: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    with np.load(examples / "digits_test.npz") as data:
        return np.asarray(data["images"][:20])


def test_inspect_tells_operators_shapes_parameters_and_macs(
    qcomp_command: Command, model: Path
) -> None:
    outcome = qcomp_command("inspect", model)
    assert outcome.status == 0
    for text in ("f32[1,1,8,8]", "f32[1,10]", "BatchNormalization", "parameters", "MACs"):
        assert text in outcome.out
    assert "dimension N of input image bound to 1" in outcome.out
    assert "nothing would be refused" in outcome.out


def test_inspect_json_is_one_object(qcomp_command: Command, model: Path) -> None:
    summary = json.loads(qcomp_command("inspect", model, "--json", "--bind", "N=2").out)
    assert summary["inputs"] == {"image": "f32[2,1,8,8]"}
    assert summary["operators"]["Conv"] == 5
    assert summary["problems"] == []
    (head,) = [layer for layer in summary["layers"] if layer["mnemonic"] == "dense"]
    assert (head["type"], head["parameters"], head["macs"]) == ("f32[2,10]", 410, 800)
    assert sum(layer["macs"] for layer in summary["layers"]) == summary["macs"]


def test_compile_writes_the_promised_files_and_one_json_object(
    qcomp_command: Command, model: Path, calibration: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "digits"
    outcome = qcomp_command("compile", model, "-o", out, "--calibration", calibration, "--json")
    assert outcome.status == 0, outcome.err
    assert {f.name for f in out.iterdir()} == FILES
    summary = json.loads(outcome.out)
    assert list(summary) == [
        "target",
        "isa",
        "arena_bytes",
        "weights_bytes",
        "library_bytes",
        "seconds",
        "sqnr_db_output",
        "accuracy",
        "findings",
        "advice",
        "input",
        "output",
    ]
    assert summary["library_bytes"] == (out / "libdigits.so").stat().st_size
    assert summary["sqnr_db_output"] > 20
    assert [part["part"]["output"] for part in summary["accuracy"]["parts"]] == ["logits"]
    assert summary["input"]["shape"] == [1, 1, 8, 8]
    assert summary["output"]["name"] == "logits"
    manifest = json.loads((out / "digits.manifest.json").read_text())
    assert manifest["arena_bytes"] == summary["arena_bytes"]


def test_compile_reports_for_people_without_json(
    qcomp_command: Command, model: Path, calibration: Path, tmp_path: Path
) -> None:
    options = ["-o", tmp_path / "d", "--calibration", calibration, "--recipe", "fast"]
    outcome = qcomp_command("compile", model, *options)
    assert outcome.status == 0
    for text in ("arena", "weights", "library", "input", "output", "scale", "note: ", "sqnr"):
        assert text in outcome.out


def test_compile_without_data_uses_batch_norm_statistics_and_says_so(
    qcomp_command: Command, model: Path, tmp_path: Path
) -> None:
    outcome = qcomp_command("compile", model, "-o", tmp_path / "d")
    assert outcome.status == 0, outcome.err
    assert "no calibration data" in outcome.out
    assert "batch-norm statistics" in outcome.out


def test_options_reach_the_configuration(
    qcomp_command: Command, model: Path, calibration: Path, tmp_path: Path
) -> None:
    options = ["--per-tensor", "--range", "minmax", "--name", "other", "--bind", "N=1"]
    options += ["--recipe", "fast"]
    where = ["-o", tmp_path / "d", "--calibration", calibration]
    assert qcomp_command("compile", model, *where, *options).status == 0
    net = qcomp.load(tmp_path / "d")
    assert net.name == "other"
    assert not net.config.per_channel
    assert net.config.range == "minmax"


def test_dump_writes_text_log_and_difference_of_every_pass(
    qcomp_command: Command, model: Path, calibration: Path, tmp_path: Path
) -> None:
    dump = tmp_path / "dump"
    where = ["-o", tmp_path / "d", "--calibration", calibration, "--dump", dump]
    assert qcomp_command("compile", model, *where, "--recipe", "fast").status == 0
    names = {f.name for f in dump.iterdir()}
    assert "00-import.txt" in names
    (fold,) = [n for n in names if n.endswith("-fold-batch-norm.txt")]
    assert {fold.replace(".txt", ".log"), fold.replace(".txt", ".diff")} <= names
    assert "did" in (dump / fold.replace(".txt", ".log")).read_text()


def test_verify_finds_no_differing_bit(qcomp_command: Command, digits: Path) -> None:
    outcome = qcomp_command("verify", digits, "--samples", "6", "--json")
    assert outcome.status == 0
    report = json.loads(outcome.out)
    assert report["differing_bits"] == 0
    assert report["samples"] >= 10
    assert report["compared_values"] >= 100


def test_bench_gives_quantiles_in_order(qcomp_command: Command, digits: Path) -> None:
    outcome = qcomp_command("bench", digits, "--seconds", "0.05", "--callers", "2", "--json")
    report = json.loads(outcome.out)
    assert 0 < report["p10_us"] <= report["median_us"] <= report["p90_us"]
    assert (report["callers"], report["threads"]) == (2, 1)
    assert "median" in qcomp_command("bench", digits, "--seconds", "0.05").out


def test_bench_by_layer_has_a_row_for_each_and_the_sum(
    qcomp_command: Command, digits: Path
) -> None:
    outcome = qcomp_command("bench", digits, "--seconds", "0.1", "--layers")
    assert outcome.status == 0, outcome.err
    for text in ("layer", "of peak", "q_conv2d", "q_dense", "layers: ", "GOPS", "median"):
        assert text in outcome.out
    report = json.loads(
        qcomp_command("bench", digits, "--seconds", "0.1", "--layers", "--json").out
    )
    assert list(report) == ["isa", "peak_gops", "layers", "sum_us", "network"]
    assert all(layer["id"][-36:] in outcome.out for layer in report["layers"])
    assert report["network"]["callers"] == 1


def test_bench_by_layer_has_one_caller(qcomp_command: Command, digits: Path) -> None:
    outcome = qcomp_command("bench", digits, "--layers", "--callers", "2")
    assert outcome.status == 2
    assert "one caller at a time" in outcome.err


def test_run_takes_floats_and_gives_floats(
    qcomp_command: Command, digits: Path, images: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", images)
    outcome = qcomp_command("run", digits, tmp_path / "in.npy", "-o", tmp_path / "out.npy")
    assert outcome.status == 0, outcome.err
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), qcomp.load(digits)(images))
    assert {f.name for f in tmp_path.iterdir()} == {"in.npy", "out.npy"}


def test_run_takes_int8_and_gives_integers(
    qcomp_command: Command, digits: Path, images: Any, tmp_path: Path
) -> None:
    net = qcomp.load(digits)
    q = net.quantized(images)
    np.savez(tmp_path / "in.npz", image=q)
    assert qcomp_command("run", digits, tmp_path / "in.npz", "-o", tmp_path / "o.npz").status == 0
    with np.load(tmp_path / "o.npz") as answer:
        assert answer["logits"].dtype == np.int8
        np.testing.assert_array_equal(answer["logits"], net.specification_integer(q))


def test_help_names_every_command(qcomp_command: Command) -> None:
    outcome = qcomp_command("--help")
    for command in ("inspect", "compile", "verify", "bench", "run"):
        assert command in outcome.out


def test_the_installed_script_runs_the_same_code(model: Path) -> None:
    script = shutil.which("qcomp", path=str(Path(sys.executable).parent))
    assert script is not None, "pip install -e . installs the script `qcomp`"
    done = subprocess.run([script, "inspect", model], capture_output=True, text=True)
    assert done.returncode == 0
    assert "opset 17" in done.stdout


def test_an_input_may_be_bound_to_a_number(qcomp_command: Command, tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "gain"], ["y"])]
    shapes = {"x": [1, 4], "gain": []}
    inputs = [helper.make_tensor_value_info(n, 1, s) for n, s in shapes.items()]
    outputs = [helper.make_tensor_value_info("y", 1, [1, 4])]
    path = tmp_path / "scaled.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "scaled", inputs, outputs)), path)
    np.save(tmp_path / "x.npy", np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4))
    out, data = tmp_path / "out", tmp_path / "x.npy"
    options = ["--calibration", data, "--bind-value", "gain=-0.5", "--json"]
    summary = json.loads(qcomp_command("compile", path, "-o", out, *options).out)
    assert summary["input"]["name"] == "x"
    assert json.loads((out / "scaled.manifest.json").read_text())["inputs"][0]["name"] == "x"
