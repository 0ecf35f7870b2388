"""`qcomp errors`, `qcomp report` and `--advise` on the digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcomp.cli import main

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def saved(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "digits"
    options = ["--calibration", examples / "digits_calibration.npz", "--recipe", "fast"]
    with pytest.raises(SystemExit) as exit:
        main(["-q", *map(str, ["compile", examples / "digits.onnx", "-o", folder, *options])])
    assert not exit.value.code
    return folder


@pytest.fixture
def given(examples: Path) -> list[str | Path]:
    return [
        *("--model", examples / "digits.onnx"),
        *("--calibration", examples / "digits_calibration.npz"),
    ]


def test_errors_are_a_table_in_80_columns(
    qcomp_command: Command, saved: Path, given: list[str | Path]
) -> None:
    found = qcomp_command("errors", saved, *given, "--count", 8, "--top", 3)
    lines = found.out.splitlines()
    assert lines[0].startswith("digits on 8 samples: outputs ")
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines[:5])
    assert len([line for line in lines if " % " in line]) == 3


def test_errors_as_json_have_both_ways(
    qcomp_command: Command, saved: Path, given: list[str | Path]
) -> None:
    found = json.loads(qcomp_command("errors", saved, *given, "--count", 4, "--json").out)
    assert found["samples"] == 4
    tensors = {t["id"]: t for t in found["tensors"]}
    assert set(found["ranking"]) == {id for id, t in tensors.items() if t["isolated"]}
    for id in found["ranking"]:
        tensor = tensors[id]
        assert 0.0 <= tensor["share"] <= 1.0
        assert tensor["cumulative"]["sqnr_db"] <= tensor["isolated"]["sqnr_db"] + 10
        assert 0.0 <= tensor["isolated"]["bias"] <= 1.0
    assert sum(tensors[id]["share"] for id in found["ranking"]) == pytest.approx(1.0)


def test_data_are_asked_for(qcomp_command: Command, saved: Path) -> None:
    found = qcomp_command("errors", saved)
    assert found.status == 2
    assert "expected --data, or --calibration" in found.err


def test_a_report_with_labels_and_advice(
    qcomp_command: Command, saved: Path, given: list[str | Path], examples: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    data = ["--data", examples / "digits_test.npz", "--count", 20]
    found = qcomp_command("report", saved, "-o", page, *given, *data, "--advise")
    assert (found.status, found.err) == (0, "")
    assert found.out == f"{page}: {page.stat().st_size:,} bytes\n"
    text = page.read_text(encoding="utf-8")
    assert "Top-1 of the integer network" in text
    assert page.stat().st_size < 500_000


def test_labels_without_a_model_are_a_mistake(
    qcomp_command: Command, saved: Path, tmp_path: Path
) -> None:
    found = qcomp_command("report", saved, "-o", tmp_path / "p.html", "--labels", tmp_path / "l")
    assert found.status == 2
    assert "labels: expected the model and the data that they are of" in found.err
    assert not (tmp_path / "p.html").exists()


def test_compile_prints_advice(
    qcomp_command: Command, examples: Path, calibration: Path, tmp_path: Path
) -> None:
    options = ["--calibration", calibration, "--recipe", "fast", "--advise"]
    where = [examples / "digits.onnx", "-o", tmp_path / "out"]
    assert "  advice: " in qcomp_command("compile", *where, *options).out
    record = json.loads(qcomp_command("compile", *where, *options, "--json").out)
    assert any("8 samples, fewer than 16" in one for one in record["advice"])
