"""`qcomp evaluate` and `qcomp run` on labelled data and on pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def data(examples: Path) -> dict[str, Any]:
    with np.load(examples / "digits_test.npz") as file:
        return {"image": file["images"][:40], "labels": file["labels"][:40]}


def test_the_command_prints_a_table_or_json(
    qcomp_command: Command, digits: Path, examples: Path, tmp_path: Path, data: dict[str, Any]
) -> None:
    np.savez(tmp_path / "test.npz", **data)
    arguments = ["evaluate", digits, tmp_path / "test.npz", "--model", examples / "digits.onnx"]
    shown = qcomp_command(*arguments)
    assert shown.status == 0
    assert "float   integer" in shown.out
    assert "  top-1 " in shown.out
    found = json.loads(qcomp_command(*arguments, "--json").out)
    assert found["of_integer"]["top1"] == pytest.approx(0.975, abs=0.03)
    assert found["samples"] == 40
    refused = qcomp_command("evaluate", examples / "digits.onnx", tmp_path, "--model", digits)
    assert refused.status == 2
    assert "--model has nothing to compare" in refused.err


def test_two_commands_from_pictures_to_the_top_1_of_the_library(
    qcomp_command: Command, examples: Path, tmp_path: Path, data: dict[str, Any]
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for i, (x, y) in enumerate(zip(data["image"], data["labels"], strict=True)):
        (tmp_path / "photos" / str(y)).mkdir(parents=True, exist_ok=True)
        pixels = np.rint(x[0] * 255).astype(np.uint8)
        pillow.fromarray(pixels).save(tmp_path / "photos" / str(y) / f"{i}.png")
    photos, out = tmp_path / "photos", tmp_path / "out"
    model = examples / "digits.onnx"
    options = ["--calibration", photos, "--mean", "0", "--recipe", "fast"]
    assert qcomp_command("compile", model, "-o", out, *options).status == 0
    evaluated = qcomp_command("evaluate", out, photos, "--json")
    assert json.loads(evaluated.out)["of_integer"]["top1"] > 0.9
    run = qcomp_command("run", out, photos, "-o", tmp_path / "y.npy", "--samples", "7")
    assert run.status == 0
    assert np.load(tmp_path / "y.npy").shape == (7, 10)
